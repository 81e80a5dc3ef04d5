"""Statistics of a dataset: measured row by row, added up in any order.

A row's *facts* are a few numbers for each column, stored beside it until the shards are written, so
that nothing is decoded twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genloom.data import (
    AudioColumn,
    ClassColumn,
    Column,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    TensorColumn,
    TextColumn,
)
from genloom_platform.data.manifest import ColumnStatistics, Measure

MEASURES: dict[str, tuple[str, ...]] = {
    "image": ("height", "width", "channels", "channel 0", "channel 1", "channel 2", "channel 3"),
    "audio": ("seconds", "amplitude"),
    "text": ("characters",),
    "notes": ("seconds", "notes"),
    "number": ("value",),
    "tensor": ("value",),
}
"""What is measured of each kind. Each measure has four facts: mean, mean square, minimum, maximum."""
LEVELS = np.arange(256.0)
SQUARES = LEVELS**2
ABSENT = (math.nan, math.nan, math.nan, math.nan)


def facts_of(column: Column, value: Any) -> NDArray[np.float64]:
    """A row's facts, shape [measures × 4]; NaN for a channel that an image lacks."""
    measures: list[tuple[float, float, float, float]] = []
    if isinstance(column, ImageColumn):
        measures = [_one(float(size)) for size in value.array.shape]
        pixels = value.array.reshape(-1, value.array.shape[2])
        measures += [_many(pixels[:, channel], 255) for channel in range(pixels.shape[1])]
        measures += [ABSENT] * (4 - pixels.shape[1])
    elif isinstance(column, AudioColumn):
        measures = [_one(value.duration_s), _many(value.waveform.ravel(), 1)]
    elif isinstance(column, TextColumn):
        measures = [_one(float(len(value)))]
    elif isinstance(column, NotesColumn):
        end = max((note.start_s + note.duration_s for note in value.notes), default=0.0)
        measures = [_one(end), _one(float(len(value.notes)))]
    elif isinstance(column, NumberColumn):
        measures = [_one(float(value))]
    elif isinstance(column, TensorColumn):
        measures = [_many(np.asarray(value, np.float64).ravel(), 1)]
    return np.array(measures, np.float64).ravel()


def _one(value: float) -> tuple[float, float, float, float]:
    return value, value * value, value, value


def _many(values: NDArray[Any], scale: float) -> tuple[float, float, float, float]:
    if not len(values):
        return ABSENT
    if values.dtype == np.uint8:  # by histogram: exact, and faster than converting
        counts = np.bincount(values, minlength=256)
        mean = float(counts @ LEVELS) / (len(values) * scale)
        square = float(counts @ SQUARES) / (len(values) * scale * scale)
    else:
        wide = values.astype(np.float64) / scale
        mean, square = float(wide.mean()), float((wide * wide).mean())
    return mean, square, float(values.min()) / scale, float(values.max()) / scale


@dataclass
class Tally:
    """The facts of some rows of one split, added up."""

    rows: int = 0
    sums: dict[str, list[list[float]]] = field(default_factory=dict)
    """Column → for each measure: rows, sum of means, sum of mean squares, minimum, maximum."""
    counts: dict[str, list[int]] = field(default_factory=dict)
    """Class column → rows of each class."""
    characters: dict[str, str] = field(default_factory=dict)
    """Text column → the characters that occur, sorted."""

    def add(self, other: "Tally") -> None:
        """Take another one in."""
        self.rows += other.rows
        for name, sums in other.sums.items():
            mine = self.sums.setdefault(name, [[0.0, 0.0, 0.0, math.inf, -math.inf] for _ in sums])
            self.sums[name] = [_joined(a, b) for a, b in zip(mine, sums, strict=True)]
        for name, counts in other.counts.items():
            mine_counts = self.counts.get(name, [0] * len(counts))
            self.counts[name] = [a + b for a, b in zip(mine_counts, counts, strict=True)]
        for name, characters in other.characters.items():
            self.characters[name] = "".join(sorted({*self.characters.get(name, ""), *characters}))

    def measure(self, column: str, kind: str, name: str) -> Measure | None:
        """One measure of a column; None where no row has it."""
        if column not in self.sums or name not in MEASURES[kind]:
            return None
        rows, mean, square, low, high = self.sums[column][MEASURES[kind].index(name)]
        if not rows:
            return None
        deviation = math.sqrt(max(0.0, square / rows - (mean / rows) ** 2))
        return Measure(minimum=low, maximum=high, mean=mean / rows, deviation=deviation)

    def statistics(self, columns: Mapping[str, Column]) -> dict[str, ColumnStatistics]:
        """As the manifest has them."""
        found: dict[str, ColumnStatistics] = {}
        for name, column in columns.items():
            measured = {
                each: self.measure(name, column.kind, each) for each in MEASURES.get(column.kind, ())
            }
            counts = self.counts.get(name)
            names = column.names if isinstance(column, ClassColumn) else ()
            found[name] = ColumnStatistics(
                rows=self.rows,
                counts=dict(zip(names, counts, strict=True)) if counts is not None else None,
                measures={each: value for each, value in measured.items() if value},
            )
        return found


def tally(columns: Mapping[str, Column], table: pa.Table, facts: pa.Table) -> Tally:
    """The tally of a table of rows, from their facts (columns of the same names, lists of numbers)."""
    result = Tally(rows=table.num_rows)
    for name, column in columns.items():
        if column.kind in MEASURES and table.num_rows:
            flat = facts.column(name).combine_chunks()
            values = np.asarray(flat.flatten()).reshape(table.num_rows, -1, 4)
            result.sums[name] = [_summed(values[:, at]) for at in range(values.shape[1])]
        if isinstance(column, ClassColumn):
            indices = table.column(name).to_numpy()
            result.counts[name] = np.bincount(indices, minlength=len(column.names)).tolist()
        if isinstance(column, TextColumn):
            seen: set[str] = set()
            for text in table.column(name).to_pylist():
                seen.update(text)
            result.characters[name] = "".join(sorted(seen))
    return result


def _summed(facts: NDArray[np.float64]) -> list[float]:
    """One measure of some rows, from their facts of shape [rows, 4]."""
    present = facts[~np.isnan(facts[:, 0])]
    if not len(present):
        return [0.0, 0.0, 0.0, math.inf, -math.inf]
    # Exact sums (math.fsum) do not depend on how the rows were cut into shards.
    mean, square = math.fsum(present[:, 0]), math.fsum(present[:, 1])
    return [float(len(present)), mean, square, float(present[:, 2].min()), float(present[:, 3].max())]


def _joined(one: list[float], other: list[float]) -> list[float]:
    sums = [a + b for a, b in zip(one[:3], other[:3], strict=True)]
    return [*sums, min(one[3], other[3]), max(one[4], other[4])]


def completed(
    columns: Mapping[str, Column], splits: Mapping[str, Tally], vocabulary_of: str = "train"
) -> dict[str, Column]:
    """The columns with all that the rows told of them."""
    whole = Tally()
    for each in splits.values():
        whole.add(each)
    characters = splits.get(vocabulary_of, Tally()).characters
    return {name: _complete(name, column, whole, characters) for name, column in columns.items()}


def _complete(name: str, column: Column, whole: Tally, characters: Mapping[str, str]) -> Column:
    def bounds(measure: str) -> Measure:
        found = whole.measure(name, column.kind, measure)
        return found or Measure(minimum=0, maximum=0, mean=0, deviation=0)

    match column:
        case ImageColumn():
            height, width, channels = (bounds(measure) for measure in MEASURES["image"][:3])
            return ImageColumn(
                height=int(height.maximum) if height.minimum == height.maximum > 0 else None,
                width=int(width.maximum) if width.minimum == width.maximum > 0 else None,
                channels=int(channels.maximum) or column.channels,
            )
        case TextColumn():
            vocabulary = tuple(characters.get(name, ""))
            return TextColumn(vocabulary=vocabulary, max_chars=int(bounds("characters").maximum))
        case AudioColumn() | NotesColumn():
            return column.model_copy(update={"max_s": bounds("seconds").maximum})
        case NumberColumn():
            value = bounds("value")
            update = {"minimum": value.minimum, "maximum": value.maximum}
            return column.model_copy(update=update)
        case _:
            return column
