"""Reading: one unit of a source becomes parts, on whatever worker takes it. `layout` comes next.

A part holds encoded rows in the order of their draw, a number that is a function of the row's key; so
the shuffled shards can be gathered from all parts in ranges of draws. A unit's record is written last:
an import that is taken up again passes over the units that have one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genloom import Sample
from genloom.data import ClassColumn, Column
from genloom.errors import DataError, RequestError
from genloom.formats import BadRow, Files, Format, Unit
from genloom_platform.data import encoding, statistics
from genloom_platform.data.item import MEDIA, Dropped, Item, Passing, Step, opened
from genloom_platform.data.recipe import Recipe
from genloom_platform.data.source import explained
from genloom_platform.data.splits import number_of
from genloom_platform.store import Store

PART_BYTES = 48 << 20
PART_ROWS = 200_000
GROUP_BYTES = 1 << 20
MAX_CLASSES = 10_000
KEPT_CONTENT_BYTES = 1 << 20
"""More of a row that was left out is not kept."""
UNREADABLE = "unreadable"
QUARANTINE = pa.schema(
    [("key", pa.string()), ("rule", pa.string()), ("detail", pa.string()), ("content", pa.binary())]
)


@dataclass(frozen=True)
class Reading:
    """All that a worker needs to read any unit."""

    store: Store
    folder: str
    """The import's folder in the store."""
    files: Files
    reader: Format
    source_columns: Mapping[str, Column]
    """What the source has."""
    columns: Mapping[str, Column]
    """What the rows have after all steps."""
    recipe: Recipe
    steps: Sequence[Step]
    units: Sequence[Unit]


@dataclass
class Record:
    """What became of a unit."""

    rows: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    """How many rows each rule left out."""
    examples: list[str] = field(default_factory=list)
    """The first rows that could not be read, and why."""
    parts: list[str] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    """The names that occur in columns whose classes are not known beforehand."""
    size_bytes: int = 0


def read_unit(reading: Reading, number: int) -> Record:
    """Read one unit into parts, unless it was done before.

    Raises:
        DataError: The source is damaged, or a row cannot be read and the policy is to fail.
    """
    done = f"{reading.folder}/parts/{number:06d}.json"
    if reading.store.exists(done):
        return Record(**reading.store.read_json(done))
    draft = Draft(reading, number)
    with explained(reading.files.url):
        unit = reading.units[number]
        rows: Passing = (
            opened(reading.source_columns, row) for row in reading.reader.rows(reading.files, unit)
        )
        for step in reading.steps:
            rows = step(rows)
        for row in rows:
            if isinstance(row, BadRow):
                if reading.recipe.bad_rows == "fail":
                    raise DataError(
                        f"{reading.files.url or reading.recipe.format}: {row.key}: {row.reason}; repair the "
                        f"source, or import with bad_rows=quarantine to set such rows aside"
                    )
                draft.set_aside(row.key, UNREADABLE, row.reason, row.content)
            elif isinstance(row, Dropped):
                draft.set_aside(
                    row.item.key, row.rule, row.detail, content_of(reading.columns, row.item)
                )
            else:
                draft.add(row)
    record = draft.finish()
    reading.store.write_json(done, record.__dict__)
    return record


def content_of(columns: Mapping[str, Column], item: Item) -> bytes:
    """What of a row is kept when it is left out: its first file, or its first value."""
    name = next((n for n, column in columns.items() if column.kind in MEDIA), next(iter(columns)))
    if name in item.files:
        return item.files[name]
    value = item.values[name]
    return value.to_bytes() if isinstance(value, Sample) else str(value).encode()


class Draft:
    """The rows of a unit that wait to be written."""

    def __init__(self, reading: Reading, number: int) -> None:
        self._reading, self._number = reading, number
        self._record = Record()
        self._classes: dict[str, set[str]] = {
            name: set()
            for name, column in reading.columns.items()
            if isinstance(column, ClassColumn) and not column.names
        }
        self._rows: list[dict[str, Any]] = []
        self._size_bytes = 0
        self._aside: list[dict[str, Any]] = []

    def add(self, item: Item) -> None:
        """Take a row."""
        columns, recipe = self._reading.columns, self._reading.recipe
        row = {
            name: item.files[name] if name in item.files else encoding.encode(column, item.values[name])
            for name, column in columns.items()
        }
        size_bytes = sum(len(v) if isinstance(v, (bytes, str)) else 8 for v in row.values())
        for name, names in self._classes.items():
            names.add(str(row[name]))
        row["_key"] = item.key
        row["_split"] = item.split
        row["_draw"] = number_of(item.key, f"draw {recipe.seed}")
        row["_origin"] = number_of(item.origin or item.key, f"draw {recipe.seed}")
        row["_bytes"] = size_bytes
        row["_digest"] = _digest(columns, row)
        row |= encoding.near_marks(recipe.clean, columns, item.values)
        row["_facts"] = {
            name: statistics.facts_of(column, item.values[name]) for name, column in columns.items()
        }
        self._rows.append(row)
        self._size_bytes += size_bytes
        if self._size_bytes >= PART_BYTES or len(self._rows) >= PART_ROWS:
            self._flush()

    def set_aside(self, key: str, rule: str, detail: str, content: bytes) -> None:
        """Take a row that is left out."""
        self._aside.append(
            {"key": key, "rule": rule, "detail": detail, "content": content[:KEPT_CONTENT_BYTES]}
        )
        rules = self._record.rules
        rules[rule] = rules.get(rule, 0) + 1
        if rule == UNREADABLE and len(self._record.examples) < 5:
            self._record.examples.append(f"{key}: {detail}")
        if len(self._aside) >= 1000:
            self._flush_aside()

    def finish(self) -> Record:
        """Write what is left."""
        self._flush()
        self._flush_aside()
        for name, names in self._classes.items():
            if len(names) > MAX_CLASSES:
                raise RequestError(
                    f"the column {name!r} has more than {MAX_CLASSES:,} different values and is no class; "
                    f"import it as text or id (columns.{name}=text)"
                )
            self._record.classes[name] = sorted(names)
        return self._record

    def _flush(self) -> None:
        if not self._rows:
            return
        self._rows.sort(key=lambda row: row["_draw"])
        name = f"parts/{self._number:06d}-{len(self._record.parts):03d}.parquet"
        table = encoding.part_table(self._reading.columns, self._reading.recipe.clean, self._rows)
        rows_per_group = max(
            16, min(1 << 15, len(self._rows) * GROUP_BYTES // max(1, self._size_bytes))
        )
        with self._reading.store.writing(f"{self._reading.folder}/{name}") as sink:
            pq.write_table(
                table, sink, row_group_size=rows_per_group, compression="none", use_dictionary=False
            )
        self._record.parts.append(name)
        self._record.rows += len(self._rows)
        self._record.size_bytes += self._size_bytes
        self._rows, self._size_bytes = [], 0

    def _flush_aside(self) -> None:
        if self._aside:
            count = sum(self._record.rules.values()) - len(self._aside)
            path = f"{self._reading.folder}/aside/{self._number:06d}-{count:09d}.parquet"
            with self._reading.store.writing(path) as sink:
                pq.write_table(pa.Table.from_pylist(self._aside, QUARANTINE), sink)
            self._aside = []


def _digest(columns: Mapping[str, Column], row: Mapping[str, Any]) -> int:
    """64 bits of what a person would compare: media and text, or the whole row where there are none."""
    content = [name for name, column in columns.items() if column.kind in ("text", *MEDIA)]
    digest = hashlib.blake2b(digest_size=8)
    for name in content or columns:
        value = row[name]
        data = value if isinstance(value, bytes) else np.asarray(value).tobytes()
        data = value.encode() if isinstance(value, str) else data
        digest.update(len(data).to_bytes(8) + data)
    return int.from_bytes(digest.digest())
