"""MovieLens: ratings of films by people, in each of the three layouts in which it was published.

Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, 2015. Read are
`ratings.csv` (MovieLens 20M and later), `ratings.dat` (1M, 10M) and `u.data` (100K).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import model_validator

from genloom.data import Column, IdColumn, NumberColumn
from genloom.errors import DataError, RequestError
from genloom.formats import BadRow, Files, Format, SourceRow, Unit
from genloom_platform.data.formats.lines import line_units, numbered
from genloom_platform.data.formats.places import where

FIELDS = ("user", "item", "rating", "time")
HEADER = b"userId,movieId,rating,timestamp"
NUMBER = re.compile(rb"-?\d+(\.\d+)?")
MAX_DIGITS = 18
"""What surely fits 64 bits."""


@dataclass(frozen=True)
class Layout:
    """How one of the files writes its rows."""

    separator: bytes
    header: bytes = b""


LAYOUTS = {
    "ratings.csv": Layout(b",", HEADER),
    "ratings.dat": Layout(b"::"),
    "u.data": Layout(b"\t"),
}


class Ratings(Format):
    """Ratings of items by users, as MovieLens publishes them."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "MovieLens: ratings.csv, ratings.dat or u.data, or the folder that holds it"

    lowest: float = 0.5
    """The lowest rating there is; a row with a lower one is bad."""
    highest: float = 5.0
    """The highest rating there is; a row with a higher one is bad."""

    @model_validator(mode="after")
    def _ordered(self) -> "Ratings":
        if self.lowest >= self.highest:
            raise ValueError(f"lowest = {self.lowest:g} must be below highest = {self.highest:g}")
        return self

    def columns(self, files: Files) -> Mapping[str, Column]:
        """Who rated what, how and when (seconds since 1970)."""
        name, layout = _table(files)
        _check_beginning(files, name, layout)
        number = NumberColumn(minimum=0, maximum=0)
        return {
            "user": IdColumn(count=0),
            "item": IdColumn(count=0),
            "rating": number,
            "time": number.model_copy(update={"integer": True}),
        }

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of the file."""
        return line_units(files, [_table(files)[0]])

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """One row a line; the key is the line's number."""
        _, layout = _table(files)
        for name, number, line in numbered(files, unit):
            line = line.rstrip(b"\r\n")
            if not line or (number == 1 and layout.header):
                continue
            yield self._row(f"{name}:{number}", line, layout)

    def _row(self, key: str, line: bytes, layout: Layout) -> SourceRow | BadRow:
        fields = line.split(layout.separator)
        reason = _fault(fields)
        if reason:
            return BadRow(key, reason, line)
        rating = float(fields[2])
        if not self.lowest <= rating <= self.highest:
            side = f"below {self.lowest:g}" if rating < self.lowest else f"above {self.highest:g}"
            return BadRow(key, f"the rating {rating:g} is {side}", line)
        user, item, time = int(fields[0]), int(fields[1]), int(fields[3])
        return SourceRow(key, {"user": user, "item": item, "rating": rating, "time": time})


def _fault(fields: list[bytes]) -> str:
    """What is wrong with the fields of a line, or nothing."""
    if len(fields) != len(FIELDS):
        return f"the line has {len(fields)} fields, not {len(FIELDS)}"
    for name, field in zip(FIELDS, fields, strict=True):
        if not field:
            return f"the {name} is missing"
        if name == "rating" and not NUMBER.fullmatch(field):
            return f"the rating {_shown(field)!r} is no number"
        if name != "rating" and not (field.isdigit() and len(field) <= MAX_DIGITS):
            return f"the {name} {_shown(field)!r} is no whole number"
    return ""


def _shown(field: bytes) -> str:
    return field.decode(errors="replace")


def _table(files: Files) -> tuple[str, Layout]:
    """The file of ratings, wherever it lies in the source."""
    found = [name for name in files.sizes if name.rpartition("/")[2] in LAYOUTS]
    if len(found) > 1:
        raise RequestError(f"{files.url} holds {' and '.join(found)}; give the one that is meant")
    if found:
        return found[0], LAYOUTS[found[0].rpartition("/")[2]]
    if len(files.sizes) == 1:
        (name,) = files.sizes
        for known, layout in LAYOUTS.items():
            if name.endswith(known[known.rindex(".") :]):
                return name, layout
    raise RequestError(
        f"{files.url} holds none of {', '.join(LAYOUTS)}; give MovieLens as it was published"
    )


def _check_beginning(files: Files, name: str, layout: Layout) -> None:
    """Raise DataError where the first line says that this is no such file."""
    first: Any = next(numbered(files, Unit((name,), 0, files.sizes[name])), (name, 1, b""))
    line: bytes = first[2].rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
    wrong = line != layout.header if layout.header else _fault(line.split(layout.separator))
    if not wrong:
        return
    rule = (
        f"the header {layout.header.decode()!r}"
        if layout.header
        else f"four fields with {layout.separator.decode()!r} between them"
    )
    raise DataError(
        f"{where(files, name)}:1 reads {_shown(line[:60])!r}, where {rule} must stand; "
        f"give MovieLens as it was published"
    )
