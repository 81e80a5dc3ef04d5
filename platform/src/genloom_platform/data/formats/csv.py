"""CSV: a header, then one row of fields a line, or several where a field in quotes holds line breaks."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import pyarrow as pa
from pydantic import field_validator

from genloom.errors import DataError
from genloom.formats import BadRow, Files, Unit, grouped
from genloom_platform.data.formats.lines import MAX_LINE_BYTES, numbered
from genloom_platform.data.formats.places import where
from genloom_platform.data.formats.tables import LOOKED_AT_ROWS, Raw, Table
from genloom_platform.data.formats.values import WHOLE

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
TRUTHS = {"true", "false"}
NAMED = pa.dictionary(pa.int32(), pa.string())
"""The type of a column of truth values, whose names are kept as they are written."""


class CsvFiles(Table):
    """CSV files with a header, in UTF-8. The first 1,000 rows of each say which columns are numbers."""

    reads: ClassVar[str] = "a .csv or .tsv file with a header, or a folder of them"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

    separator: str | None = None
    """What stands between two fields; where left out, a tab in .tsv files and a comma in others."""

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = "\t" if value == "\\t" else value
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError(f"{value!r} is no separator; give one character, as in ';' or '\\t'")
        return value

    def schema_of(self, files: Files, name: str) -> pa.Schema:
        """The columns of a file, as its header and first rows have them."""
        rows = list(self.head(files, name, ()))
        names = self._header(files, name)
        return pa.schema(
            [
                (column, pa.string() if column in self.kinds else _type(row[column] for row in rows))
                for column in names
            ]
        )

    def units(self, files: Files) -> Sequence[Unit]:
        """Whole files: whether a line begins a row can be known only from the file's beginning."""
        return grouped(files, names=self.names(files))

    def records(
        self, files: Files, unit: Unit, wanted: Sequence[str]
    ) -> Iterator[tuple[str, Raw] | BadRow]:
        """The rows, by the number of the line on which each begins."""
        for name in unit.files:
            header = self._header(files, name)
            for line, fields, content in self._rows(files, name):
                key = f"{name}:{line}"
                if isinstance(fields, str):
                    yield BadRow(key, fields, content)
                elif len(fields) != len(header):
                    reason = f"the row has {len(fields)} fields, where the header has {len(header)}"
                    yield BadRow(key, reason, content)
                else:
                    yield key, dict(zip(header, fields, strict=True))

    def head(self, files: Files, name: str, wanted: Sequence[str]) -> Iterator[Raw]:
        """The first rows of a file."""
        for number, record in enumerate(self.records(files, Unit((name,)), wanted), 1):
            if not isinstance(record, BadRow):
                yield record[1]
            if number == LOOKED_AT_ROWS:
                return

    def _header(self, files: Files, name: str) -> list[str]:
        fields = next(self._parsed(files, name), (1, "the file is empty", b""))[1]
        if isinstance(fields, str):
            raise DataError(f"{where(files, name)}:1 is no header: {fields}; give a CSV file in UTF-8")
        if "" in fields or len(set(fields)) < len(fields) or any(_foreign(each) for each in fields):
            raise DataError(
                f"{where(files, name)}:1 is no header: {', '.join(map(repr, fields))[:200]}; a CSV file "
                f"begins with the names of its columns, each once, in UTF-8"
            )
        return fields

    def _rows(self, files: Files, name: str) -> Iterator[tuple[int, list[str] | str, bytes]]:
        """The rows after the header."""
        for number, row in enumerate(self._parsed(files, name)):
            if number:
                yield row

    def _parsed(self, files: Files, name: str) -> Iterator[tuple[int, list[str] | str, bytes]]:
        """For each row: its first line's number, its fields or what is wrong with it, its bytes."""
        separator = self.separator or ("\t" if ".tsv" in name.lower() else ",")
        csv.field_size_limit(MAX_LINE_BYTES)
        taken = _Lines(line for _, _, line in numbered(files, Unit((name,))))
        reader = csv.reader(taken, delimiter=separator, strict=True)
        while True:
            taken.row.clear()
            first = taken.number + 1
            try:
                fields: list[str] | str = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if len(taken.row) > 1 and "unexpected end" in str(error):
                    raise DataError(
                        f"{where(files, name)}: the quote that opens in line {first} is never closed, so the "
                        f"{len(taken.row):,} lines after it cannot be told apart; close it or remove it"
                    ) from error
                fields = f"it is no CSV ({error})"
            if fields:
                yield first, fields, b"".join(taken.row).rstrip(b"\r\n")


class _Lines:
    """The lines of a file as csv takes them; those of the present row are kept."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.number = 0
        self.row: list[bytes] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.row.append(line)
        return line.decode("utf-8-sig" if self.number == 1 else "utf-8", "surrogateescape")


def _foreign(value: str) -> bool:
    """Whether a text has bytes in it that are no UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in value)


def _type(values: Iterable[str]) -> pa.DataType:
    """The type of a column's first values; empty ones tell nothing."""
    told = [value for value in values if value]
    if not told:
        return pa.string()
    if all(WHOLE.fullmatch(value) for value in told):
        return pa.int64()
    if all(NUMBER.fullmatch(value) for value in told):
        return pa.float64()
    return NAMED if {value.lower() for value in told} <= TRUTHS else pa.string()
