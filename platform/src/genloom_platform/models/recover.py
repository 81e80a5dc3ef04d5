"""Recovery of a registry: versions and aliases made anew from what lies in the store.

MLflow's runs, with the figures of every step, are in the database alone and do not come back.
"""

import math

from genloom_platform.models import aliases, record
from genloom_platform.models import release as releases
from genloom_platform.models.record import Registered
from genloom_platform.models.registry import Registry, Version
from genloom_platform.store import Store


def recover(store: Store) -> list[Version]:
    """Register every release that the registry does not know, with the number that it had.

    Those that were never registered, as after a crash at that moment, come last. Aliases name again what
    their newest records say.

    Returns:
        The versions that were registered.
    """
    registry = Registry(store, anew=True)
    known = {version.place for version in registry.versions()}
    lost: list[tuple[float, str, str, Registered | None]] = []
    for name in store.names("models"):
        for run in store.names(f"models/{name}"):
            place = f"models/{name}/{run}"
            if place not in known and store.exists(f"{place}/{releases.DESCRIPTION}"):
                was = record.read(store, place)
                created_at = releases.read(store, place).created_at
                lost.append((was.number if was else math.inf, created_at, place, was))
    made = [
        _register(registry, place, was) for _, _, place, was in sorted(lost, key=lambda row: row[:2])
    ]
    for name in store.names("aliases"):
        for alias in store.names(f"aliases/{name}"):
            aliases.follow(registry, name, alias)
    return made


def _register(registry: Registry, place: str, was: Registered | None) -> Version:
    """Give a release its number again; the numbers before it that are missing were deleted."""
    release = releases.read(registry.store, place)
    while True:
        made = registry.register(release, was.measured if was else {}, None)
        if was is None or made.number >= was.number:
            return registry.tag(made, was.tags) if was and was.tags else made
        registry.client.delete_model_version(made.name, str(made.number))
