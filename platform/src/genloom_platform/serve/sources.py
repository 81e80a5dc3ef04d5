"""Where the models of an endpoint come from."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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
            PluginError: A model's plugin is not installed.
        """
        ...


@dataclass(frozen=True)
class Registered:
    """The models of a store's registry."""

    store: str
    """The store's URL."""

    def find(self, reference: str) -> Source:
        """See `Shelf`."""
        store = Store(self.store)
        version = Registry(store).find(reference)
        version.release.trainable()
        load = functools.partial(loading.load_version, store, version)
        created = int(datetime.fromisoformat(version.release.created_at).timestamp())
        return Source(version.full_name, load, created, version.run)


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
        PluginError: A model's plugin is not installed.
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
