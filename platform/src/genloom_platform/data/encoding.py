"""Rows as Arrow: the types of columns, and the tables that parts and shards are made of.

Images, audio and notes are files' bytes (binary), classes and ids integers, text a string, a tensor a
list of numbers. Each field's metadata names the column's kind.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genloom.data import ClassColumn, Column, IdColumn, NumberColumn, TensorColumn, TextColumn
from genloom.errors import DataError
from genloom_platform.data.clean.images import near_hash
from genloom_platform.data.clean.rules import Cleaning
from genloom_platform.data.clean.text import PERMUTATIONS, near_signature
from genloom_platform.data.item import MEDIA

KEY = "_key"
"""The column of a shard that names the row's place in the source."""


def arrow_schema(columns: Mapping[str, Column]) -> pa.Schema:
    """The Arrow schema of a dataset's shards."""
    fields = [
        pa.field(name, arrow_type(column), metadata={"genloom": column.kind})
        for name, column in columns.items()
    ]
    return pa.schema([*fields, pa.field(KEY, pa.string())])


def arrow_type(column: Column) -> pa.DataType:
    """How a column's values are stored."""
    if column.kind in MEDIA:
        return pa.binary()
    if isinstance(column, TextColumn):
        return pa.string()
    if isinstance(column, NumberColumn):
        return pa.int64() if column.integer else pa.float64()
    if isinstance(column, TensorColumn):
        return pa.list_(pa.from_numpy_dtype(np.dtype(column.dtype)), int(np.prod(column.shape)))
    return pa.int32() if column.kind == "class" else pa.int64()


def encode(column: Column, value: Any) -> Any:
    """A value as Arrow takes it."""
    if column.kind in MEDIA:
        return value.to_bytes()
    if isinstance(column, TensorColumn):
        return np.asarray(value, column.dtype).ravel()
    return value


def decode(columns: Mapping[str, Column], table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows of a table, each as the values that a generator's `prepare` gets.

    Raises:
        DataError: A value is not what its column's kind says.
    """
    names = [name for name in columns if name in table.column_names]
    for values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        yield {
            name: decode_value(columns[name], value) for name, value in zip(names, values, strict=True)
        }


def decode_value(column: Column, value: Any) -> Any:
    """One Arrow value as a row holds it."""
    try:
        if column.kind in MEDIA:
            return MEDIA[column.kind].from_bytes(value)
        if isinstance(column, TensorColumn):
            return np.asarray(value, column.dtype).reshape(column.shape)
    except (ValueError, TypeError) as error:
        raise DataError(f"a value of kind {column.kind} cannot be decoded: {error}") from error
    return value


def near_marks(
    rules: Cleaning, columns: Mapping[str, Column], values: Mapping[str, Any]
) -> dict[str, Any]:
    """What near duplicates are found by, for the columns where they are asked for."""
    marks: dict[str, Any] = {}
    for name, column in columns.items():
        if column.kind == "image" and rules.images.near_duplicates is not None:
            marks[f"_near {name}"] = near_hash(values[name])
        if column.kind == "text" and rules.text.near_duplicates is not None:
            marks[f"_near {name}"] = near_signature(values[name])
    return marks


def part_table(
    columns: Mapping[str, Column], rules: Cleaning, rows: Sequence[Mapping[str, Any]]
) -> pa.Table:
    """Rows on their way, with what the layout is decided by."""
    fields: dict[str, pa.DataType] = {name: _part_type(column) for name, column in columns.items()}
    fields |= {
        KEY: pa.string(),
        "_split": pa.string(),
        "_draw": pa.uint64(),
        "_origin": pa.uint64(),
        "_bytes": pa.int64(),
        "_digest": pa.uint64(),
    }
    for name, column in columns.items():
        if column.kind == "image" and rules.images.near_duplicates is not None:
            fields[f"_near {name}"] = pa.uint64()
        if column.kind == "text" and rules.text.near_duplicates is not None:
            fields[f"_near {name}"] = pa.list_(pa.uint32(), PERMUTATIONS)
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, kind in fields.items()}
    for name in columns:
        facts = [row["_facts"][name] for row in rows]
        arrays[f"_facts {name}"] = pa.array(facts, pa.list_(pa.float64()))
    return pa.table(arrays)


def _part_type(column: Column) -> pa.DataType:
    """As in a shard, but for classes whose names are still unknown."""
    return pa.string() if isinstance(column, ClassColumn) and not column.names else arrow_type(column)


def with_known_classes(
    columns: Mapping[str, Column], ids: Mapping[str, pa.Array], table: pa.Table
) -> pa.Table:
    """The rows of parts as a shard stores them: names as class numbers, ids dense.

    Args:
        columns: With the names of all classes.
        ids: For each column of ids that were counted: the original ids, by the dense one.
        table: Rows of parts.
    """
    import pyarrow.compute

    pc: Any = pyarrow.compute  # its functions are made when it is imported; no checker sees them
    arrays: list[Any] = []
    for name, column in columns.items():
        values = table.column(name)
        if isinstance(column, ClassColumn) and pa.types.is_string(values.type):
            values = pc.index_in(values, value_set=pa.array(column.names, pa.string())).cast(pa.int32())
        elif isinstance(column, IdColumn) and name in ids:
            values = pc.index_in(values, value_set=ids[name]).cast(pa.int64())
        arrays.append(values)
    return pa.table([*arrays, table.column(KEY)], schema=arrow_schema(columns))
