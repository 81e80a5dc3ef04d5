"""Tables: the base of the formats whose files are rows of named columns.

A format says which files there are, of what columns, and what stands in their rows; here the columns
become kinds (`columns`) and the rows' values are checked (`values`).
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import AliasChoices, Field

from genloom.data import Column
from genloom.errors import DataError, RequestError, UnknownName
from genloom.formats import BadRow, Files, Format, SourceRow, Unit
from genloom_platform.data.formats.columns import (
    Hint,
    Kind,
    column_of,
    family,
    fits,
    kind_of,
    needs_first,
    schema_hints,
)
from genloom_platform.data.formats.places import named, where
from genloom_platform.data.formats.values import Reader, reader_of, text
from genloom_platform.data.item import MEDIA

LOOKED_AT_ROWS = 1000
"""How many rows are looked at for the first value of each column."""
Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """What the first file of a table says of all of them."""

    schema: pa.Schema
    first: Raw
    """The first value of each column that has one."""


@dataclass(frozen=True)
class Layout:
    """A table's columns and how their values are read."""

    columns: Mapping[str, Column]
    split_column: str | None

    @property
    def wanted(self) -> list[str]:
        """The columns that are read from the file."""
        return [*self.columns, *([self.split_column] if self.split_column else [])]

    def readers(self, open_file: Callable[[str], bytes]) -> dict[str, Reader]:
        """How each wanted column's values are read."""
        found = {name: reader_of(column, open_file) for name, column in self.columns.items()}
        return {**found, self.split_column: text} if self.split_column else found


class Table(Format):
    """The base of the table formats."""

    contract: ClassVar[str] = "1.0"
    suffixes: ClassVar[tuple[str, ...]]

    # The option is `columns`; as a field of that name it would hide the method.
    kinds: dict[str, Kind] = Field(
        default_factory=dict[str, Kind], validation_alias=AliasChoices("columns", "kinds")
    )
    """Column → kind, where it does not follow from the file: text, class, number, id, image, audio, notes,
    tensor, or skip. In CSV and JSON a number that is named here may have a fraction."""
    split_column: str | None = None
    """The column that holds the published split of each row."""

    @abstractmethod
    def schema_of(self, files: Files, name: str) -> pa.Schema:
        """The columns of a file.

        Raises:
            DataError: It is no such file, or holds what must not be read.
        """

    @abstractmethod
    def records(
        self, files: Files, unit: Unit, wanted: Sequence[str]
    ) -> Iterator[tuple[str, Raw] | BadRow]:
        """The rows of a unit as the file has them, each after its key."""

    @abstractmethod
    def head(self, files: Files, name: str, wanted: Sequence[str]) -> Iterator[Raw]:
        """The first rows of a file; as many as are looked at."""

    def names(self, files: Files) -> list[str]:
        """The files of the table, in order."""
        return named(files, self.suffixes, f"{self.suffixes[0]} file")

    def hints(self, files: Files, schema: pa.Schema) -> Mapping[str, Hint]:
        """What is known of columns beside their types."""
        return schema_hints(schema)

    def splits(self, files: Files, unit: Unit) -> Mapping[str, str]:
        """The split of each file, where the file decides it."""
        return {}

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The columns of the first file; all others must have the same."""
        first, *others = self.names(files)
        head = self._head(files)
        schemas = {name: self.schema_of(files, name) for name in others}
        known = {column for schema in [head.schema, *schemas.values()] for column in schema.names}
        for column in [*self.kinds, *([self.split_column] if self.split_column else [])]:
            if column not in known:
                raise UnknownName("column", column, known)
        found = self._layout(files, head).columns
        differences = [
            difference
            for name, schema in schemas.items()
            for difference in self._differences(files, head.schema, name, schema)
        ]
        if differences:
            raise DataError(
                f"{where(files, first)} and other files differ in their columns: {'; '.join(differences)}; "
                f"write them alike, or import them one by one"
            )
        return found

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """The rows of a unit; one that does not fit the columns is bad."""
        layout = self._layout(files, self._head(files))
        readers = {name: layout.readers(partial(_content, files, name)) for name in unit.files}
        splits = self.splits(files, unit)
        for record in self.records(files, unit, layout.wanted):
            if isinstance(record, BadRow):
                yield record
                continue
            key, raw = record
            file = key.rpartition(":")[0]
            values: dict[str, Any] = {}
            try:
                for name, read in readers[file].items():
                    values[name] = _read(name, read, raw.get(name))
            except ValueError as error:
                yield BadRow(key, str(error), as_json(raw))
                continue
            split = values.pop(self.split_column) if self.split_column else splits.get(file)
            yield SourceRow(key, values, split)

    def _head(self, files: Files) -> Head:
        """The first file's schema, and the first values, from the next file where one has no rows."""
        schema = self.schema_of(files, self.names(files)[0])
        missing = [
            field.name
            for field in schema
            if needs_first(self.kinds.get(field.name), field.type)
            and self.kinds.get(field.name) != "skip"
        ]
        first: dict[str, Any] = {}
        for name in self.names(files) if missing else []:
            for row in self.head(files, name, list(missing)):
                for column in [each for each in missing if row.get(each) is not None]:
                    first[column] = row[column]
                    missing.remove(column)
                if not missing:
                    return Head(schema, first)
            if len(first) > 0:
                break
        return Head(schema, first)

    def _layout(self, files: Files, head: Head) -> Layout:
        hinted = self.hints(files, head.schema)
        columns: dict[str, Column] = {}
        faults: list[str] = []
        for field in head.schema:
            hint = hinted.get(field.name)
            if field.name == self.split_column:
                continue
            first = head.first.get(field.name)
            if isinstance(first, dict) or (
                self.kinds.get(field.name) in MEDIA and isinstance(first, str)
            ):
                first = _media(files, self.names(files)[0], first)
            kind = self.kinds.get(field.name) or (hint.kind if hint else kind_of(field.type, first))
            if kind == "skip":
                continue
            fault = _fault(kind, field, first)
            if kind is None or fault:
                faults.append(f"{field.name!r} {fault}")
                continue
            names = hint.names if hint and kind == "class" else ()
            columns[field.name] = column_of(kind, field.type, first, names)
        if faults or not columns:
            raise RequestError(
                f"{files.url}: {'; '.join(faults) or 'no column is left'}; name the kind of each such column, "
                f"or skip, in the option columns"
            )
        return Layout(columns, self.split_column)

    def _differences(
        self, files: Files, first: pa.Schema, name: str, other: pa.Schema
    ) -> Iterator[str]:
        for column in [*first.names, *(each for each in other.names if each not in first.names)]:
            if self.kinds.get(column) == "skip":
                continue
            if column not in other.names or column not in first.names:
                which = "lacks" if column not in other.names else "adds"
                yield f"{where(files, name)} {which} {column!r}"
                continue
            mine, others = family(first.field(column).type), family(other.field(column).type)
            # Whole numbers, or no value at all, may stand where numbers are wanted.
            alike = mine == others or "nothing" in (mine, others)
            if not alike and (mine, others) != ("numbers", "whole numbers"):
                yield f"{where(files, name)} has {others} in {column!r}, not {mine}"


def as_json(raw: Raw) -> bytes:
    """A row as JSON, for a person to look at: bytes are told by their number."""
    shown = json.dumps(dict(raw), ensure_ascii=False, default=_told)
    return shown.encode(errors="backslashreplace")


def _told(value: Any) -> str:
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else str(value)


def _read(name: str, read: Reader, value: Any) -> Any:
    if value is None:
        raise ValueError(f"{name!r} is null")
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error


def _fault(kind: Kind | None, field: pa.Field, first: Any) -> str:
    """Why a column cannot be of a kind, or nothing."""
    if kind is None and family(field.type) == "nothing":
        return f"holds no value, or values of several types, in the first {LOOKED_AT_ROWS:,} rows"
    if first is None and needs_first(kind, field.type):
        return f"holds no value that can be read in the first {LOOKED_AT_ROWS:,} rows"
    if kind is None:
        return f"is of the type {field.type}, which has no kind of its own"
    if not fits(kind, field.type):
        return f"is of the type {field.type}, which cannot be read as {kind}"
    try:
        column_of(kind, field.type, first)
    except ValueError as error:
        return f"cannot be read as {kind}: {error}"
    return ""


def _media(files: Files, table: str, value: Any) -> Any:
    """The bytes of a file that a table holds or names."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")  # pyright: ignore[reportUnknownMemberType]
    try:
        return _content(files, table, value) if isinstance(value, str) else value
    except ValueError:
        return None


def _content(files: Files, table: str, name: str) -> bytes:
    """A file that a table names: beside the table, or by its path within the source."""
    folder = table.rpartition("/")[0]
    for path in (f"{folder}/{name}" if folder else name, name):
        if path in files.sizes:
            with files.open(path) as file:
                return file.read()
    raise ValueError(f"the source holds no file {name!r}")
