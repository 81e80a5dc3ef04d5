"""A row on its way from a source to a shard."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from genloom import Audio, Image, Notes
from genloom.data import (
    AudioColumn,
    ClassColumn,
    Column,
    IdColumn,
    NumberColumn,
    TensorColumn,
    TextColumn,
)
from genloom.formats import BadRow, SourceRow

MEDIA: dict[str, type[Image] | type[Audio] | type[Notes]] = {
    "image": Image,
    "audio": Audio,
    "notes": Notes,
}


@dataclass(frozen=True)
class Item:
    """A row that was read: values as a generator would get them."""

    key: str
    values: Mapping[str, Any]
    split: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Media that are still as they came, as files' bytes: stored so, without a second encoding."""

    origin: str | None = None
    """Of an augmented copy: the key of the row that it is a copy of."""

    def having(self, **values: Any) -> "Item":
        """The row with other values."""
        files = {name: data for name, data in self.files.items() if name not in values}
        return replace(self, values={**self.values, **values}, files=files)


@dataclass(frozen=True)
class Dropped:
    """A row that a rule left out."""

    item: Item
    rule: str
    """As in "too small"."""
    detail: str


Passing = Iterator[Item | BadRow | Dropped]
Step = Callable[[Passing], Passing]
"""Something that is done to rows as they pass; what is bad or dropped passes through it."""


def each(change: Callable[[Item], Item | Dropped]) -> Step:
    """A step that looks at one row at a time."""

    def step(rows: Passing) -> Passing:
        for row in rows:
            yield change(row) if isinstance(row, Item) else row

    return step


def opened(columns: Mapping[str, Column], row: SourceRow | BadRow) -> Item | BadRow:
    """A source's row with its media decoded, or what is wrong with it."""
    if isinstance(row, BadRow):
        return row
    values: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for name, column in columns.items():
        try:
            value = row.values[name]
            if column.kind in MEDIA and isinstance(value, bytes):
                files[name] = value
                value = MEDIA[column.kind].from_bytes(value) if value else _empty()
            values[name] = _checked(column, value)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            reason = "there is no value" if isinstance(error, KeyError) else str(error)
            return BadRow(row.key, f"{name}: {reason}", files.get(name, b""))
    return Item(row.key, values, row.split, files)


def _empty() -> Any:
    raise ValueError("the file is empty")


def _checked(column: Column, given: object) -> Any:
    """The value, where it is what its column says; raises ValueError or TypeError where not."""
    wanted = MEDIA.get(column.kind)
    if wanted and not isinstance(given, wanted):
        raise TypeError(f"{column.kind} is wanted, not {type(given).__name__}")
    value: Any = cast(Any, given)
    match column:
        case AudioColumn():
            _check_audio(column, value)
        case TextColumn():
            value.encode()
        case ClassColumn(names=names) if names and not 0 <= value < len(names):
            raise ValueError(f"the class {value} is none of 0 to {len(names) - 1}")
        case IdColumn(count=count) if count and not 0 <= value < count:
            raise ValueError(f"the id {value} is none of 0 to {count - 1}")
        case NumberColumn(integer=integer):
            if not (isinstance(value, int) if integer else abs(float(value)) < float("inf")):
                raise ValueError(f"{value!r} is no {'whole' if integer else 'finite'} number")
        case TensorColumn(shape=shape, dtype=dtype):
            import numpy as np

            return np.asarray(value, dtype).reshape(shape)
        case _:
            pass
    return value


def _check_audio(column: AudioColumn, value: Audio) -> None:
    if (value.rate_hz, len(value.waveform)) != (column.rate_hz, column.channels):
        raise ValueError(
            f"the sound has {value.rate_hz} Hz and {len(value.waveform)} channels, "
            f"not {column.rate_hz} Hz and {column.channels}"
        )
    if value.waveform.shape[1] == 0:
        raise ValueError("the sound is empty")
