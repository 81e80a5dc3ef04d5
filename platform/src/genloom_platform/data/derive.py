"""Derived datasets: a dataset is the source of another, cleaned, labelled, or augmented.

The rows keep their keys and, unless splits are asked for, their splits; the new manifest names its parents.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar

from genloom.data import Column
from genloom.errors import RequestError
from genloom.formats import Files, Format, SourceRow, Unit
from genloom_platform.data import generated, imports, manifest, shards
from genloom_platform.data.annotate import predictor_step, read_labels
from genloom_platform.data.encoding import KEY
from genloom_platform.data.imports import Making, Progress
from genloom_platform.data.item import MEDIA
from genloom_platform.data.manifest import Manifest
from genloom_platform.data.recipe import Labels, resolve
from genloom_platform.store import Store

Show = Callable[[Progress], None]
CHUNKS = 32
"""Chunks of a shard that are read as one unit."""


@dataclass(frozen=True)
class Stored:
    """A dataset as a source's files: one a shard."""

    store: Store
    manifest: Manifest

    @property
    def url(self) -> str:
        """`name@version`."""
        return self.manifest.full_name

    @property
    def stamp(self) -> str:
        """The dataset's digest."""
        return self.manifest.digest

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each shard."""
        return {shard.path: shard.size_bytes for shard in self.manifest.shards}

    def open(self, name: str) -> BinaryIO:
        """A shard."""
        return self.store.open(f"{manifest.folder(self.manifest.name)}/{name}")


class Dataset(Format):
    """Reads the rows of a dataset as they are."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "a dataset of the store"

    def columns(self, files: Files) -> Mapping[str, Column]:
        """Those of the dataset."""
        assert isinstance(files, Stored)
        return files.manifest.columns

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of chunks."""
        assert isinstance(files, Stored)
        units: list[Unit] = []
        for shard in files.manifest.shards:
            for start in range(0, len(shard.chunks), CHUNKS):
                stop = min(start + CHUNKS, len(shard.chunks))
                size_bytes = shard.size_bytes * (stop - start) // len(shard.chunks)
                units.append(Unit((shard.path,), start, stop, size_bytes))
        return units

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow]:
        """The rows of some chunks, media as files' bytes."""
        assert isinstance(files, Stored)
        known = files.manifest
        (shard,) = [each for each in known.shards if each.path == unit.files[0]]
        names = list(known.columns)
        for chunk in range(unit.start, unit.stop or 0):
            table = shards.read_chunks(files.store, known, shard, [chunk], [*names, KEY])
            for row in table.to_pylist():
                key = row.pop(KEY)
                yield SourceRow(
                    key, {name: _value(known.columns[name], row[name]) for name in names}, shard.split
                )


def clean(
    store: Store,
    dataset: str,
    name: str,
    settings: Mapping[str, Any],
    on_progress: Show = lambda progress: None,
) -> Manifest:
    """Make a dataset from another by a recipe: cleaning, splits, labels from a table, augmented copies.

    Raises:
        InvalidConfig: All that is wrong with the settings.
        UnknownName: There is no such dataset.
    """
    making = _making(store, dataset, name, settings, on_progress)
    return imports.make(making)


def annotate(
    store: Store,
    dataset: str,
    name: str,
    model: str,
    column: str | None = None,
    on_progress: Show = lambda progress: None,
) -> Manifest:
    """Label a dataset by a registered predictor; its confidence and its version stand in each row.

    Raises:
        UnknownName: There is no such dataset or model.
        RequestError: The model is no classifier.
        WrongDataset: The dataset lacks what the model looks at.
    """
    making = _making(store, dataset, name, {}, on_progress)
    step, columns, full_name = predictor_step(store, model, column, making.columns)
    return imports.make(
        replace(
            making,
            steps=[step, *making.steps],
            columns=columns,
            parents=(*making.parents, full_name),
            recipe=making.recipe.model_copy(
                update={"options": {"annotate": full_name, "column": column}}
            ),
        )
    )


def extend(
    store: Store,
    dataset: str,
    name: str,
    model: str,
    count: int,
    balance: str | None = None,
    seed: int = 0,
    on_progress: Show = lambda progress: None,
) -> Manifest:
    """Add samples of a trained generator to a dataset's training split, marked as such.

    Args:
        store: Where all of it lives.
        dataset: What is added to.
        name: The new dataset's name.
        model: The generator: `name`, `name@number` or `name@alias`.
        count: How many samples.
        balance: A column of classes: more is drawn of the rarer ones, so that all come nearest to equal.
        seed: Of the samples.
        on_progress: Called as it goes.

    Raises:
        UnknownName: There is no such dataset or model.
        RequestError: The model makes nothing that the dataset has a column for.
    """
    making = _making(store, dataset, name, {}, on_progress)
    assert isinstance(making.files, Stored)
    plan = generated.planned(store, making.files.manifest, model, count, balance, seed)
    reader = generated.WithSamples(base=Dataset(), plan=plan, store=store.url)
    recipe = making.recipe.model_copy(
        update={"options": {"with": plan.model, "count": count, "balance": balance, "seed": seed}}
    )
    columns = {**making.columns, **generated.MARK}
    source_columns = reader.columns(making.files)
    return imports.make(
        replace(
            making,
            reader=reader,
            source_columns=source_columns,
            columns=columns,
            parents=(*making.parents, plan.model),
            recipe=recipe,
        )
    )


def _making(
    store: Store, dataset: str, name: str, settings: Mapping[str, Any], on_progress: Show
) -> Making:
    parent = manifest.load(store, dataset)
    if parent.name == "mixture":
        raise RequestError(f"{dataset} is a mixture; derive a dataset from each of its parts")
    imports.dataset_name(name)
    store.check_writable()
    shards.require(store, parent)
    for key in ("format", "source", "options"):
        if key in settings:
            raise RequestError(f"{key} is for imports; {parent.full_name} is the source here")
    values = {**settings, "format": "dataset", "source": parent.full_name}
    recipe = resolve(values, Dataset)
    if recipe.labels:
        _check_named(store, parent, recipe.labels)
    steps, columns = imports.steps_of(recipe, dict(parent.columns), parent.version)
    return Making(
        store,
        name,
        Stored(store, parent),
        Dataset(),
        recipe,
        steps,
        parent.columns,
        columns,
        parents=(parent.full_name,),
        on_progress=on_progress,
    )


def _check_named(store: Store, parent: Manifest, labels: Labels) -> None:
    """Raise RequestError where a table of labels names rows that there are not."""
    unknown = set(read_labels(labels))
    for shard in parent.shards:
        table = shards.read_chunks(store, parent, shard, range(len(shard.chunks)), [KEY])
        unknown -= set(table.column(0).to_pylist())
    if unknown:
        raise RequestError(
            f"{labels.file} names {len(unknown):,} rows that {parent.full_name} does not have, as "
            f"{min(unknown)!r}; genloom data export {parent.name} FOLDER --as folder lists the keys"
        )


def _value(column: Column, value: Any) -> Any:
    return bytes(value) if column.kind in MEDIA else value


__all__ = ["Dataset", "Stored", "annotate", "clean", "extend"]
