"""Where the models of an endpoint come from."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from genloom import LoadedModel
from genloom.errors import UnknownName
from genloom_platform.models import loading
from genloom_platform.models.registry import Registry
from genloom_platform.serve.plan import Target
from genloom_platform.serve.wanted import Wanted
from genloom_platform.store import Store


@dataclass(frozen=True)
class Source:
    """A model to serve."""

    name: str
    """`name@version`."""
    load: Callable[[], LoadedModel]
    """Called in the model's own process."""
    created: int
    """When it was released, in Unix time."""
    run: str | None = None
    """The run that made it."""


class Shelf(Protocol):
    """Where models are looked up; it travels to other processes."""

    def find(self, reference: str) -> Source:
        """What a reference means now.

        Raises:
            UnknownName: There is no such model.
        """
        ...


class Registered:
    """The models of a store's registry.

    Args:
        store: The store's URL.
    """

    def __init__(self, store: str) -> None:
        self._store = Store(store)
        self._registry = Registry(self._store)
        self._found: dict[str, Source] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Registered, (self._store.url,)

    def find(self, reference: str) -> Source:
        """See `Shelf`. A version that was found once is not read again: it never changes."""
        version = self._registry.find(reference)
        if version.full_name not in self._found:
            load = functools.partial(loading.load_version, self._store, version)
            created = int(datetime.fromisoformat(version.release.created_at).timestamp())
            self._found[version.full_name] = Source(version.full_name, load, created, version.run)
        return self._found[version.full_name]

    def check(self, references: Iterable[str]) -> None:
        """Raise where a reference means nothing, or the plugin of what it means is not installed here.

        Raises:
            UnknownName: There is no such model.
            PluginError: A model's plugin is not installed.
        """
        for reference in references:
            self._registry.find(reference).release.trainable()


@dataclass(frozen=True)
class Given:
    """Models that are at hand, by the references that mean them."""

    sources: Mapping[str, Source]

    def find(self, reference: str) -> Source:
        """See `Shelf`."""
        if reference not in self.sources:
            raise UnknownName("model", reference, self.sources)
        return self.sources[reference]


def targets(asked: Wanted, shelf: Shelf) -> tuple[list[Target], dict[str, Source]]:
    """What the references of an endpoint mean now, and the sources of all of these versions.

    Raises:
        UnknownName: There is no such model.
    """
    sources: dict[str, Source] = {}

    def find(reference: str) -> str:
        source = shelf.find(reference)
        sources[source.name] = source
        return source.name

    found = [
        Target(
            served,
            find(served.model),
            find(served.canary.version) if served.canary else None,
            find(served.shadow.version) if served.shadow else None,
        )
        for served in asked.models
    ]
    return found, sources
