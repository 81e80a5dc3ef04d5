"""Aliases: names such as `champion` that move from version to version. Each move is a record that stays.

    aliases/<model>/<alias>/000001.json     what it named before and after, who moved it, when

A record is created once: of two people who move an alias at the same time, one makes the next record,
and the other is told. MLflow's alias, which everything reads, follows the newest record.
"""

import datetime
import getpass
import os
import re
import secrets
import socket
import time
from typing import Literal

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import DataError, RequestError, UnknownName
from genloom_platform.models.registry import Registry, Version
from genloom_platform.names import identifier
from genloom_platform.store import Store

DEFAULT = "champion"
FOLLOW_S = 10.0
"""How long MLflow's alias may lag behind the newest record while the one who wrote it works."""


class Move(Facts):
    """An alias went from one version to another."""

    number: int
    kind: Literal["promote", "rollback", "retire"]
    before: int | None
    """The version that it named; None where it named nothing."""
    after: int | None
    by: str
    """`user@host`."""
    at: str
    """UTC, ISO 8601."""
    token: str
    """Tells this record from another of that number."""

    def __str__(self) -> str:
        change = f"{_version(self.before)} → {_version(self.after)}"
        return f"{change} ({self.kind}) by {self.by} at {self.at[:19]} UTC"


def history(store: Store, name: str, alias: str) -> list[Move]:
    """The moves of an alias, the first first."""
    folder = _folder(name, alias)
    found: list[Move] = []
    for file in store.names(folder):
        try:
            found.append(Move.model_validate_json(store.read(f"{folder}/{file}")))
        except ValidationError as error:
            raise DataError(
                f"the record {store.url}/{folder}/{file} is damaged; remove it, and see with models show that "
                f"{alias} names the right version"
            ) from error
    return found


def promote(store: Store, reference: str, alias: str = DEFAULT, expected: int | None = None) -> Version:
    """Let an alias name a version; it names no other any more.

    Args:
        store: Where the model lives.
        reference: The version.
        alias: As in `champion`.
        expected: The version that the alias is to be taken from, where only that is meant; 0 where
            the alias must be new.

    Raises:
        UnknownName: There is no such model or version.
        RequestError: It is no alias, it names another version than expected, or someone else moved it
            meanwhile.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,49}", alias) or re.fullmatch(r"v\d+|latest", alias):
        raise RequestError(
            f"{alias!r} is no alias: give lower-case letters, digits and -, starting with a letter, "
            f"not 'latest' or a version such as v1"
        )
    name = reference.partition("@")[0]
    seen = history(store, name, alias)
    registry = Registry(store)
    version = registry.find(reference)
    current = _current(registry, name, alias, seen)
    if expected is not None and (current or 0) != expected:
        last = f"; the last move: {seen[-1]}" if seen else ""
        raise RequestError(
            f"{name}@{alias} names {_version(current)}, not {_version(expected)} as expected{last}; "
            f"genloom models show {name} shows what there is"
        )
    _move(registry, name, alias, seen, ("promote", current, version.number))
    return registry.find(version.full_name)


def rollback(store: Store, name: str, alias: str = DEFAULT) -> Version:
    """Let an alias name the version again that it named before; done twice, the one before that.

    Raises:
        UnknownName: There is no such model or alias.
        RequestError: It has named no other version before, or someone else moved it meanwhile.
    """
    seen = history(store, name, alias)
    registry = Registry(store)
    there = _known(registry, name, alias, seen)
    current = _current(registry, name, alias, seen)
    before = [number for number in _named(seen, current) if number in there and number != current]
    if not before:
        raise RequestError(
            f"{name}@{alias} named no other version before that is still there; promote one: genloom "
            f"models promote {name}@{max(there)} {alias}"
        )
    _move(registry, name, alias, seen, ("rollback", current, before[-1]))
    return registry.find(f"{name}@{before[-1]}")


def retire(store: Store, name: str, alias: str) -> None:
    """Let an alias name nothing any more; a rollback brings it back.

    Raises:
        UnknownName: There is no such model or alias.
        RequestError: Someone else moved it meanwhile.
    """
    seen = history(store, name, alias)
    registry = Registry(store)
    _known(registry, name, alias, seen)
    current = _current(registry, name, alias, seen)
    if current is None:
        raise RequestError(f"{name}@{alias} names nothing already; leave it")
    _move(registry, name, alias, seen, ("retire", current, None))


def _known(registry: Registry, name: str, alias: str, seen: list[Move]) -> set[int]:
    """The versions that there are of a model; raises UnknownName where it or the alias is not known."""
    registry.find(name)
    versions = registry.versions(name)
    aliases = {each for version in versions for each in version.aliases}
    if alias not in aliases and not seen:
        raise UnknownName(f"alias of {name!r} named", alias, aliases)
    return {version.number for version in versions}


def _current(registry: Registry, name: str, alias: str, seen: list[Move]) -> int | None:
    """The version that MLflow's alias names, once who made the newest record has had time to move it.

    It may differ from the record for good: someone can move an alias on MLflow's pages.
    """
    until = datetime.datetime.fromisoformat(seen[-1].at).timestamp() + FOLLOW_S if seen else 0.0
    while True:
        named = [v.number for v in registry.versions(name) if alias in v.aliases]
        current = named[0] if named else None
        if not seen or current == seen[-1].after or time.time() > until:
            return current
        time.sleep(FOLLOW_S / 20)


def _named(seen: list[Move], current: int | None) -> list[int]:
    """The versions that an alias named, each move back undoing the one before it; the current one last."""
    named: list[int] = []
    for move in seen:
        _push(named, move.before)
        if move.kind == "promote":
            _push(named, move.after)
        while move.kind == "rollback" and named and named[-1] != move.after:
            named.pop()
    _push(named, current)
    return named


def _push(named: list[int], number: int | None) -> None:
    if number is not None and named[-1:] != [number]:
        named.append(number)


def _move(
    registry: Registry,
    name: str,
    alias: str,
    seen: list[Move],
    change: tuple[Literal["promote", "rollback", "retire"], int | None, int | None],
) -> None:
    """Make the next record of an alias, and let MLflow follow it.

    Raises:
        RequestError: Someone else made that record first.
    """
    kind, before, after = change
    move = Move(
        number=seen[-1].number + 1 if seen else 1,
        kind=kind,
        before=before,
        after=after,
        by=_me(),
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        token=secrets.token_hex(8),
    )
    path = f"{_folder(name, alias)}/{move.number:06d}.json"
    if not registry.store.create(path, move.model_dump_json(indent=1).encode()):
        other = history(registry.store, name, alias)[-1]
        raise RequestError(
            f"someone else moved {name}@{alias} at the same time, and this did not: {other}; genloom models "
            f"show {name} shows what there is; ask again if it is still right"
        )
    try:
        follow(registry, name, alias)
    except BaseException:
        registry.store.remove(path)
        raise


def follow(registry: Registry, name: str, alias: str) -> None:
    """Let MLflow's alias name what the newest record says, also where another is made meanwhile."""
    while True:
        newest = history(registry.store, name, alias)[-1]
        if newest.after is None:
            registry.client.delete_registered_model_alias(name, alias)
        else:
            registry.client.set_registered_model_alias(name, alias, str(newest.after))
        if history(registry.store, name, alias)[-1] == newest:
            return


def _me() -> str:
    """Who asks, as `user@host`; a container may have no name for its user."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _folder(name: str, alias: str) -> str:
    return f"aliases/{identifier('model', name)}/{alias}"


def _version(number: int | None) -> str:
    return f"version {number}" if number else "nothing"
