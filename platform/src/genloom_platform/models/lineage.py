"""Lineage: where a model comes from, as a tree of values, from an endpoint down to the source's files.

    endpoint ← model ← run ← checkpoint ← dataset ← source
                 ↑       ↑                   ↑
               parent  sweep         datasets and models that it was made from

Whatever is gone (a pruned checkpoint, a deleted run) stays in its place, and says that it is.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from genloom.data import Facts
from genloom.errors import DataError, RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.data import mixture
from genloom_platform.data.manifest import Manifest
from genloom_platform.models.registry import Registry, Version
from genloom_platform.serve import presence
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, runs
from genloom_platform.train.runs import Run

Kind = Literal["endpoint", "model", "run", "sweep", "checkpoint", "dataset", "source"]
STAYED = "stayed in the store that this was exported from"
ORIGIN = "origin"
"""The folder of an imported release that keeps the records of where it was made."""


class Node(Facts):
    """One thing, and what it was made from."""

    kind: Kind
    name: str
    facts: dict[str, str] = Field(default_factory=dict)
    """What identifies it, by name: digests, versions, times."""
    gone: str = ""
    """Why it cannot be looked at any more; empty while it can."""
    origins: tuple["Node", ...] = ()

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, each before its origins."""
        yield self
        for origin in self.origins:
            yield from origin.walk()

    def of_kind(self, kind: Kind) -> list["Node"]:
        """All nodes of a kind, the nearest first."""
        return [node for node in self.walk() if node.kind == kind]


def lineage(store: Store, version: Version) -> Node:
    """Where a version comes from."""
    return _Walk(store).model(version)


def endpoints(store: Store, version: Version) -> list[Node]:
    """The endpoints that serve a version now, each with its lineage."""
    made = lineage(store, version)
    return [
        Node(
            kind="endpoint",
            name=each.url,
            facts={"host": each.holder.host, "since": each.since},
            origins=(made,),
        )
        for each in presence.running(store)
        if version.full_name in each.models
    ]


def record_of(store: Store, name: str, place: str) -> tuple[Run | None, str]:
    """A run's record, from this store or an import; and why it is not this store's."""
    try:
        brought = Run.model_validate_json(store.read(f"{place}/{ORIGIN}/run.json"))
    except (FileNotFoundError, ValidationError):
        brought = None
    try:
        found = runs.find(store, name)
    except RequestError:
        found = None
    if found and brought in (None, found):
        return found, ""
    return brought, STAYED if brought else "its record was deleted"


def manifest_of(store: Store, reference: str, place: str) -> tuple[Manifest | None, str]:
    """A dataset's manifest, from this store or an import; and why it is not this store's."""
    try:
        return manifests.load(store, reference), ""
    except RequestError:
        gone = "was deleted"
    except DataError as error:
        gone = str(error)
    if not place:
        return None, gone
    name = f"{place}/{ORIGIN}/dataset-{reference.replace('@', '-')}.json"
    try:
        brought = Manifest.model_validate_json(store.read(name))
    except (FileNotFoundError, ValidationError):
        return None, gone
    return brought, STAYED


def datasets_of(dataset: str) -> list[str]:
    """The datasets that one or a mixture of several consists of."""
    return [name for name, _ in mixture.parse(dataset)] if mixture.is_mixture(dataset) else [dataset]


class _Walk:
    """One walk: what was met before is named again, and not followed again."""

    def __init__(self, store: Store) -> None:
        self._store, self._registry = store, Registry(store)
        self._met: set[str] = set()

    def model(self, version: Version) -> Node:
        """A version, its run, and the model that it was finetuned from."""
        name = version.full_name
        facts = {"aliases": ", ".join(version.aliases)} if version.aliases else {}
        if name in self._met:
            return Node(kind="model", name=name, facts={"see": "above"})
        self._met.add(name)
        try:
            release = version.release
        except DataError as error:
            run = self._run(version.run, None, version.dataset, "", version.place)
            return Node(kind="model", name=name, facts=facts, gone=str(error), origins=(run,))
        facts |= {
            "generator": str(release.generator["name"]),
            "package": f"{release.package} {release.package_version}",
            "contract": release.contract,
            "weights": release.weights_sha256,
            "released": release.created_at,
        }
        run = self._run(
            release.run, release.step, release.dataset, release.dataset_digest, version.place
        )
        parents = (self._parent(version, release.parent),) if release.parent else ()
        return Node(kind="model", name=name, facts=facts, origins=(run, *parents))

    def _parent(self, version: Version, reference: str) -> Node:
        """The version that another was finetuned from; the number of an imported one is another store's."""
        if self._store.names(f"{version.place}/{ORIGIN}"):
            return Node(kind="model", name=reference, gone=STAYED)
        return self._named(reference)

    def _named(self, reference: str) -> Node:
        try:
            return self.model(self._registry.find(reference))
        except RequestError:
            return Node(kind="model", name=reference, gone="is no longer in the registry")

    def _run(self, name: str, step: int | None, dataset: str, digest: str, place: str) -> Node:
        """A run, its sweep, and the checkpoint and the data that came out as a model."""
        found, gone = record_of(self._store, name, place)
        data = tuple(self._dataset(each, digest, place) for each in datasets_of(dataset))
        if step is None:
            return Node(kind="run", name=name, gone=gone, origins=data)
        saved = step in checkpoint.committed(self._store, name)
        reached = Node(
            kind="checkpoint",
            name=f"{name} step {step:,}",
            gone="" if saved else "was pruned, or stayed where the run was",
            origins=data,
        )
        if found is None:
            return Node(kind="run", name=name, gone=gone, origins=(reached,))
        config = found.config
        facts = {
            "started": found.created_at,
            "package": f"{found.package} {found.package_version}",
            "steps": f"{config.steps:,}",
            "seed": str(config.seed),
            "tracking": found.tracking_id,
        }
        sweeps = (self._sweep(found.sweep),) if found.sweep else ()
        return Node(kind="run", name=name, facts=facts, gone=gone, origins=(reached, *sweeps))

    def _sweep(self, name: str) -> Node:
        there = self._store.exists(f"sweeps/{name}/sweep.json")
        return Node(kind="sweep", name=name, gone="" if there else "its record was deleted")

    def _dataset(self, reference: str, digest: str, place: str) -> Node:
        """A dataset and its source, or what it was derived from."""
        found, gone = manifest_of(self._store, reference, place)
        if found is None:
            facts = {"digest": digest} if digest else {}
            return Node(kind="dataset", name=reference, facts=facts, gone=gone)
        if found.full_name in self._met:
            return Node(kind="dataset", name=found.full_name, facts={"see": "above"})
        self._met.add(found.full_name)
        provenance = found.provenance
        facts = {
            "digest": found.digest,
            "rows": ", ".join(f"{rows:,} {split}" for split, rows in sorted(found.splits.items())),
            "importer": provenance.importer,
            "made": found.created_at,
        }
        if provenance.recipe:
            facts["recipe"] = ", ".join(sorted(provenance.recipe))
        origins = tuple(self._origin(each) for each in provenance.parents) or (_source(found),)
        return Node(kind="dataset", name=found.full_name, facts=facts, gone=gone, origins=origins)

    def _origin(self, reference: str) -> Node:
        """What a dataset was made from: a dataset, whose version is of 12 hexadecimal digits, or a model."""
        if re.fullmatch(r".*@[0-9a-f]{12}", reference):
            return self._dataset(reference, "", "")
        return self._named(reference)


def _source(manifest: Manifest) -> Node:
    """What a dataset was imported from; files of this machine are looked for."""
    source = manifest.provenance.source
    here = source.startswith("/")
    gone = (
        "is not there any more, or is on another machine" if here and not Path(source).exists() else ""
    )
    return Node(kind="source", name=source, facts={"format": manifest.provenance.format}, gone=gone)
