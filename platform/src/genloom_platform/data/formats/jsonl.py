"""JSON Lines: one JSON object a line."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import pyarrow as pa

from genloom.errors import DataError
from genloom.formats import BadRow, Files, Unit
from genloom_platform.data.formats.lines import line_units, numbered
from genloom_platform.data.formats.places import where
from genloom_platform.data.formats.tables import LOOKED_AT_ROWS, Raw, Table

LOOKED_AT_BYTES = 8 << 20


class JsonLines(Table):
    """Files of JSON objects, one a line. The first 1,000 rows of each say what its columns are."""

    reads: ClassVar[str] = "a .jsonl or .ndjson file, also .gz, or a folder of them"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

    def schema_of(self, files: Files, name: str) -> pa.Schema:
        """The columns of a file, as its first rows have them."""
        rows = _sample(files, name)
        if not rows:
            raise DataError(
                f"{where(files, name)}: none of the first lines is a JSON object; give JSON Lines, one "
                f"object a line"
            )
        columns = {column: None for row in rows for column in row}
        return pa.schema([(column, self._type(column, rows)) for column in columns])

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of large files; small and compressed ones whole."""
        return line_units(files, self.names(files))

    def records(
        self, files: Files, unit: Unit, wanted: Sequence[str]
    ) -> Iterator[tuple[str, Raw] | BadRow]:
        """One row a line, by its number; empty lines are passed over."""
        for name, number, line in numbered(files, unit):
            key = f"{name}:{number}"
            if line.strip():
                try:
                    yield key, parse(line)
                except ValueError as error:
                    yield BadRow(key, f"the line is no JSON object ({error})", line.rstrip(b"\r\n"))

    def head(self, files: Files, name: str, wanted: Sequence[str]) -> Iterator[Raw]:
        """The first rows of a file."""
        yield from _sample(files, name)

    def _type(self, column: str, rows: Sequence[Raw]) -> pa.DataType:
        values = [row[column] for row in rows if row.get(column) is not None]
        try:
            found = pa.array(values).type
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            return pa.null()
        named = self.kinds.get(column) == "number" and pa.types.is_integer(found)
        return pa.float64() if named else found


def parse(line: bytes) -> Mapping[str, Any]:
    """One line's object; raises ValueError where it is none."""
    try:
        found: Any = json.loads(line.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"it is of the type {type(found).__name__}")
    return cast(Mapping[str, Any], found)


def _sample(files: Files, name: str) -> list[Raw]:
    rows: list[Raw] = []
    size_bytes = 0
    for _, number, line in numbered(files, Unit((name,))):
        size_bytes += len(line)
        with contextlib.suppress(ValueError):
            rows.append(parse(line))
        if number >= LOOKED_AT_ROWS or size_bytes >= LOOKED_AT_BYTES:
            break
    return rows
