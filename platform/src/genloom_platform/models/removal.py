"""Removal of a version: its files and its name. What anything still needs is refused."""

from collections.abc import Iterator
from typing import Any

from genloom.errors import DataError, RequestError
from genloom_platform.models.registry import Registry, Version
from genloom_platform.serve import presence
from genloom_platform.store import Store


def delete(store: Store, reference: str) -> Version:
    """Delete a version for good; its number is not given again.

    Raises:
        UnknownName: There is no such model, version or alias.
        RequestError: It is used: by an alias, by a version that was made from it, by an endpoint.
    """
    registry = Registry(store)
    version = registry.find(reference)
    versions = registry.versions()
    uses = [*_uses(version, versions), *_served(store, version)]
    if uses:
        raise RequestError(f"{version.full_name} cannot be deleted: " + "; ".join(uses))
    registry.client.delete_model_version(version.name, str(version.number))
    if all(each.place != version.place for each in versions if each.full_name != version.full_name):
        store.delete(version.place)
    return version


def _uses(version: Version, versions: list[Version]) -> Iterator[str]:
    """Who needs a version, each with what can be done about it."""
    name = version.full_name
    for alias in version.aliases:
        yield (
            f"it is @{alias}, so promote another first, or genloom models retire {version.name} {alias}"
        )
    for other in versions:
        try:
            release = other.release
        except DataError:
            continue  # without files it can neither be loaded nor need another
        if release.parent == name:
            yield f"{other.full_name} was finetuned from it, so delete that first"
        elif name in _texts(release.generator):
            yield f"{other.full_name} is built on it, so delete that first"


def _served(store: Store, version: Version) -> Iterator[str]:
    for endpoint in presence.running(store):
        if version.full_name in endpoint.models:
            yield f"{endpoint.url} on {endpoint.holder.host} serves it, so end that first"


def _texts(value: Any) -> Iterator[str]:
    """All texts in a generator's fields; one that is a model's name means that model."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
