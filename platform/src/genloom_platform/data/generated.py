"""Samples of a trained generator as rows of a dataset, marked as such."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

import genloom
from genloom.data import ClassColumn, Column, ImageColumn
from genloom.errors import DataError, RequestError
from genloom.formats import Files, Format, SourceRow, Unit
from genloom_platform.data.manifest import Manifest
from genloom_platform.store import Store

MARK: dict[str, Column] = {"generated": ClassColumn(names=("no", "yes"))}
"""The column that tells generated rows from collected ones."""
UNIT_SAMPLES = 256
BATCH_SAMPLES = 32
KINDS: dict[type[genloom.Sample], str] = {
    genloom.Image: "image",
    genloom.Text: "text",
    genloom.Audio: "audio",
    genloom.Notes: "notes",
}


@dataclass(frozen=True)
class Plan:
    """Which samples are drawn."""

    model: str
    """`name@number`."""
    column: str
    """The column that they go to."""
    label: str | None
    """The column of classes that they are asked for by."""
    classes: tuple[int, ...]
    """The class of each sample, by the dataset's numbers; empty where none is asked for."""
    count: int
    seed: int
    parent: str
    """The version of the dataset that they are added to."""


def planned(
    store: Store, dataset: Manifest, model: str, count: int, balance: str | None, seed: int
) -> Plan:
    """Which samples to draw of a model for a dataset.

    Raises:
        UnknownName: There is no such model.
        RequestError: The samples and what they are asked for do not fill the dataset's columns.
    """
    from genloom_platform.models import loading

    loaded = loading.load(store, model)
    generator = loaded.trainable
    if not isinstance(generator, genloom.Generator):
        raise RequestError(f"{loaded.name} is a predictor and makes no samples")
    kind = KINDS[generator.makes]
    columns = {name: c for name, c in dataset.columns.items() if name not in MARK}
    fitting = [name for name, column in columns.items() if column.kind == kind]
    asked = [
        name
        for name, column in columns.items()
        if isinstance(column, ClassColumn) and name in type(generator).Prompt.model_fields
    ]
    unfilled = [name for name in columns if name not in (*fitting[:1], *asked[:1])]
    if not fitting or unfilled:
        what = (
            f"no column of kind {kind}"
            if not fitting
            else f"columns {', '.join(unfilled)} that stay empty"
        )
        raise RequestError(
            f"{loaded.name} makes samples of kind {kind}, and {dataset.full_name} has {what}; "
            f"choose a generator that is asked for them, or another dataset"
        )
    label = asked[0] if asked else None
    if balance and balance != label:
        raise RequestError(
            f"balance = {balance!r}: the prompts of {loaded.name} cannot ask for it"
            + (f"; give {label}" if label else "")
        )
    classes: tuple[int, ...] = ()
    if label:
        column = dataset.columns[label]
        assert isinstance(column, ClassColumn)
        counts = dataset.statistics["train"][label].counts or {}
        start = [counts.get(name, 0) if balance else 0 for name in column.names]
        classes = tuple(levelled(start, count))
        _check_known(loaded, label, column)
    return Plan(loaded.name, fitting[0], label, classes, count, seed, dataset.version)


def levelled(counts: Sequence[int], more: int) -> list[int]:
    """The classes of `more` rows that bring the counts nearest to equal, the rarest class first."""
    level = list(counts)
    drawn: list[int] = []
    for _ in range(more):
        rarest = int(np.argmin(level))
        level[rarest] += 1
        drawn.append(rarest)
    return drawn


class WithSamples(Format):
    """A dataset's rows, and then samples of a generator."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "a dataset of the store, with samples of a model"

    base: Format
    """Reads the dataset."""
    plan: Plan
    store: str
    """The store's URL."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """Those of the dataset, and the mark."""
        return {**self.base.columns(files), **MARK}

    def units(self, files: Files) -> Sequence[Unit]:
        """Those of the dataset, and ranges of samples."""
        starts = range(0, self.plan.count, UNIT_SAMPLES)
        samples = [Unit((), at, min(at + UNIT_SAMPLES, self.plan.count), 1) for at in starts]
        return [*self.base.units(files), *samples]

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow]:
        """The dataset's rows as they are, or some samples."""
        if unit.files:
            for row in self.base.rows(files, unit):
                assert isinstance(row, SourceRow)
                yield SourceRow(row.key, {"generated": 0, **row.values}, row.split)
            return
        columns = self.base.columns(files)
        for start in range(unit.start, unit.stop or 0, BATCH_SAMPLES):
            numbers = range(start, min(start + BATCH_SAMPLES, unit.stop or 0))
            for number, sample in zip(numbers, self._samples(columns, numbers), strict=True):
                value = sample.text if isinstance(sample, genloom.Text) else sample
                self._check_size(columns[self.plan.column], value)
                values: dict[str, Any] = {self.plan.column: value, "generated": 1}
                if self.plan.label:
                    values[self.plan.label] = self.plan.classes[number]
                yield SourceRow(f"{self.plan.model}#{self.plan.parent}-{number:06d}", values, "train")

    def _samples(self, columns: Mapping[str, Column], numbers: range) -> Sequence[genloom.Sample]:
        import torch

        loaded = _loaded(self.store, self.plan.model)
        generator: Any = loaded.trainable
        prompts: list[Any] = []
        for number in numbers:
            fields: dict[str, Any] = {"seed": self.plan.seed + number}
            if self.plan.label:
                names: Any = columns[self.plan.label]
                name = names.names[self.plan.classes[number]]
                fields[self.plan.label] = getattr(loaded.data, self.plan.label).names.index(name)
            prompts.append(type(generator).Prompt(**fields))
        with torch.inference_mode():
            return generator.generate(loaded.module, prompts)

    def _check_size(self, column: Column, value: Any) -> None:
        if isinstance(column, ImageColumn) and column.height and column.width:
            wanted = (column.height, column.width, column.channels)
            if value.array.shape != wanted:
                raise DataError(
                    f"{self.plan.model} draws {list(value.array.shape)} pixels and the dataset has "
                    f"{list(wanted)}; train the generator on this dataset first"
                )


def _check_known(loaded: genloom.LoadedModel, label: str, column: ClassColumn) -> None:
    known = getattr(getattr(loaded.data, label, None), "names", ())
    unknown = [name for name in column.names if name not in known]
    if unknown:
        raise RequestError(
            f"{loaded.name} was not trained on the classes {', '.join(unknown)} of the column {label!r}; "
            f"train it on this dataset first"
        )


@lru_cache(maxsize=1)
def _loaded(store_url: str, model: str) -> genloom.LoadedModel:
    from genloom_platform.models import loading

    return loading.load(Store(store_url), model)
