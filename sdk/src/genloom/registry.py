"""Which plugins there are: `available()` lists them and imports nothing, `load()` imports one.

A plugin is an entry point whose name is the generator's (in the group "genloom.generators") or the
format's (in "genloom.formats").
"""

import functools
import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, TypeGuard

from pydantic import ValidationError

from genloom.errors import (
    ContractMismatch,
    InvalidConfig,
    NameConflict,
    PluginError,
    Problem,
    UnknownName,
)
from genloom.formats import Format
from genloom.generator import CONTRACT, Generator, Predictor, Trainable
from genloom.problems import problems_of

GROUP = "genloom.generators"
FORMATS = "genloom.formats"
KINDS = {GROUP: "generator", FORMATS: "format"}


@dataclass(frozen=True)
class Plugin:
    """An installed generator, predictor or format, not imported yet."""

    name: str
    package: str
    """The distribution that brings it, as pip names it."""
    version: str
    """The distribution's version."""
    entry_point: EntryPoint
    rivals: tuple[str, ...] = ()
    """Other packages that claim the same name."""


def available(group: str = GROUP) -> dict[str, Plugin]:
    """All installed plugins by name, sorted. Nothing is imported."""
    return dict(_available(group, tuple(map(_installed, sys.path))))


def _installed(folder: str) -> frozenset[tuple[str, int]]:
    """The packages in a folder of the import path, and when each was last written."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(
                (entry.path, entry.stat().st_mtime_ns)
                for entry in entries
                if entry.name.endswith((".dist-info", ".egg-info"))
            )
    except OSError:
        return frozenset()


@functools.lru_cache(maxsize=8)
def _available(group: str, _: tuple[frozenset[tuple[str, int]], ...]) -> dict[str, Plugin]:
    """As `available`; read anew when other packages are installed, for it takes a quarter of a second."""
    found: dict[str, list[Plugin]] = {}
    seen: set[str] = set()
    for distribution in distributions():
        package = _normal(distribution)
        if package in seen:
            continue  # a development install is met twice on the path; the first one wins, as in import
        seen.add(package)
        for point in distribution.entry_points.select(group=group):
            plugin = Plugin(point.name, package, distribution.version, point)
            found.setdefault(point.name, []).append(plugin)
    return {name: _with_rivals(found[name]) for name in sorted(found)}


def find(name: str, group: str = GROUP) -> Plugin:
    """One plugin by name, without importing it.

    Raises:
        UnknownName: None has that name; the nearest is named.
        NameConflict: Two packages claim the name.
    """
    plugins = available(group)
    if name not in plugins:
        where = "plugins list" if group == GROUP else "data formats"
        remedy = f"genloom {where} shows them; pip install brings more"
        raise UnknownName(KINDS[group], name, plugins, remedy)
    plugin = plugins[name]
    if plugin.rivals:
        packages = [plugin.package, *plugin.rivals]
        raise NameConflict(
            f"the name {name!r} is claimed by {len(packages)} packages: {', '.join(packages)}; "
            f"pip uninstall all but one of them"
        )
    return plugin


def load(name: str) -> type[Trainable]:
    """Import a plugin's class.

    Raises:
        UnknownName: None has that name.
        NameConflict: Two packages claim the name.
        PluginError: It cannot be imported, or is no generator; package and version are named.
        ContractMismatch: It was written for another contract version; says what to install.
    """
    loaded, plugin, origin = _load(name, GROUP)
    if not _is_trainable(loaded):
        raise PluginError(f"the plugin {origin} is {loaded!r}, not a Generator or Predictor class")
    _check_contract(loaded, plugin, origin)
    return loaded


def load_format(name: str) -> type[Format]:
    """Import a format's class; raises as `load` does."""
    loaded, plugin, origin = _load(name, FORMATS)
    if not (isinstance(loaded, type) and issubclass(loaded, Format)):
        raise PluginError(f"the format {origin} is {loaded!r}, not a Format class")
    _check_contract(loaded, plugin, origin)
    return loaded


def _load(name: str, group: str) -> tuple[object, Plugin, str]:
    plugin = find(name, group)
    origin = f"{name!r} of {plugin.package} {plugin.version}"
    try:
        return plugin.entry_point.load(), plugin, origin
    except Exception as error:
        raise PluginError(
            f"the plugin {origin} cannot be imported: {type(error).__name__}: {error}; "
            f"repair it or pip uninstall {plugin.package}"
        ) from error


def create(name: str, config: dict[str, Any]) -> Trainable:
    """A configured generator.

    Raises:
        InvalidConfig: All the fields that are unknown, missing or out of bounds.
    """
    cls = load(name)
    try:
        return cls.model_validate(config)
    except ValidationError as error:
        raise InvalidConfig(f"the configuration of {name}", problems_of(error, cls)) from error


def _is_trainable(value: object) -> TypeGuard[type[Trainable]]:
    return isinstance(value, type) and issubclass(value, (Generator, Predictor))


def _check_contract(cls: type[Trainable] | type[Format], plugin: Plugin, origin: str) -> None:
    stated = getattr(cls, "contract", None)
    if not isinstance(stated, str) or not re.fullmatch(r"\d+\.\d+", stated):
        raise PluginError(
            f'the plugin {origin} states no contract version; write contract = "{CONTRACT}" in '
            f"{cls.__name__}"
        )
    wanted, ours = ([int(part) for part in text.split(".")] for text in (stated, CONTRACT))
    if wanted[0] == ours[0] and wanted[1] <= ours[1]:
        return
    if wanted > ours:
        remedy = f'pip install "genloom>={stated},<{wanted[0] + 1}"'
    else:
        remedy = f"pip install a {plugin.package} that is written for contract {ours[0]}"
    raise ContractMismatch(
        f"the plugin {origin} is written for contract {stated}, and this is {CONTRACT}; {remedy}"
    )


def _normal(distribution: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def _with_rivals(claims: list[Plugin]) -> Plugin:
    first = claims[0]
    rivals = tuple(claim.package for claim in claims[1:])
    return Plugin(first.name, first.package, first.version, first.entry_point, rivals)


__all__ = [
    "FORMATS",
    "GROUP",
    "Plugin",
    "Problem",
    "available",
    "create",
    "find",
    "load",
    "load_format",
]
