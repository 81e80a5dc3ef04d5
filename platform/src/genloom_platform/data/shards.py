"""Shards: Arrow IPC files of rows, written in chunks that can be read alone.

Column kinds as Arrow types: image, audio and notes are files' bytes (binary), classes and ids
integers, text a string, a tensor a fixed-size list. Each field's metadata repeats the column's
description, so that a shard says what it is without its manifest.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from genloom import Audio, Image, Notes
from genloom.data import Column, ImageColumn, NumberColumn, TensorColumn, TextColumn
from genloom.errors import DataError
from genloom_platform.data.manifest import Manifest, Shard, folder
from genloom_platform.store import Store

CHUNK_ROWS = 256
SHARD_BYTES = 64 << 20
MEDIA: dict[str, type[Image] | type[Audio] | type[Notes]] = {
    "image": Image,
    "audio": Audio,
    "notes": Notes,
}


def arrow_schema(columns: Mapping[str, Column]) -> pa.Schema:
    """The Arrow schema of a dataset's shards."""
    return pa.schema(
        [
            pa.field(name, _arrow_type(column), metadata={"genloom": column.model_dump_json()})
            for name, column in columns.items()
        ]
    )


def encode(columns: Mapping[str, Column], rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """Rows of values as one Arrow record batch."""
    schema = arrow_schema(columns)
    arrays = [
        pa.array([_encode_value(column, row[name]) for row in rows], schema.field(name).type)
        for name, column in columns.items()
    ]
    return pa.record_batch(arrays, schema=schema)


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


def read_chunks(
    store: Store, manifest: Manifest, shard: Shard, chunks: Sequence[int]
) -> list[pa.RecordBatch]:
    """Some chunks of a shard, by their numbers.

    Raises:
        DataError: The shard is missing or damaged.
    """
    path = f"{folder(manifest.name)}/{shard.path}"
    try:
        with store.open(path) as file, pa.ipc.open_file(file) as reader:
            refuse_pickles(reader.schema, f"{store.url}/{path}")
            return [reader.get_batch(chunk) for chunk in chunks]
    except FileNotFoundError as error:
        raise DataError(_damage(store, manifest, path, "is missing")) from error
    except (pa.ArrowInvalid, OSError, IndexError) as error:
        raise DataError(_damage(store, manifest, path, f"cannot be read ({error})")) from error


def verify(store: Store, manifest: Manifest, shard: Shard) -> None:
    """Raise DataError where a shard's bytes are not those that were imported."""
    path = f"{folder(manifest.name)}/{shard.path}"
    try:
        content = store.read(path)
    except FileNotFoundError as error:
        raise DataError(_damage(store, manifest, path, "is missing")) from error
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            _damage(store, manifest, path, "is corrupt (its SHA-256 differs from the manifest's)")
        )


def refuse_pickles(schema: pa.Schema, where: str) -> None:
    """Raise DataError where a column would be unpickled when read.

    Once `ray.data` is imported, a column with Ray's extension type for Python objects runs whatever
    code its bytes hold; so the schema is looked at before any value is.
    """
    for field in schema:
        metadata = field.metadata or {}
        extension = metadata.get(b"ARROW:extension:name", b"").decode()
        extension = extension or str(getattr(field.type, "extension_name", ""))
        if "pickle" in extension:
            raise DataError(
                f"{where}: the column {field.name!r} holds pickled objects, which can run code when read; "
                f"remove it at the source"
            )


def _damage(store: Store, manifest: Manifest, path: str, fault: str) -> str:
    return f"the shard {store.url}/{path} of {manifest.full_name} {fault}; import the dataset again"


def _arrow_type(column: Column) -> pa.DataType:
    if column.kind in MEDIA:
        return pa.binary()
    if isinstance(column, TextColumn):
        return pa.string()
    if isinstance(column, NumberColumn):
        return pa.int64() if column.integer else pa.float64()
    if isinstance(column, TensorColumn):
        return pa.list_(pa.from_numpy_dtype(np.dtype(column.dtype)), int(np.prod(column.shape)))
    return pa.int32() if column.kind == "class" else pa.int64()


def _encode_value(column: Column, value: Any) -> Any:
    if isinstance(value, (Image, Audio, Notes)):
        return value.to_bytes()
    if isinstance(column, TensorColumn):
        return np.asarray(value, column.dtype).ravel()
    return value


class Statistics:
    """What a column's description learns from the rows that pass by."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns
        self._sizes: dict[str, set[tuple[int, int, int]]] = {}
        self._characters: dict[str, set[str]] = {}
        self._longest: dict[str, int] = {}

    def add(self, split: str, row: dict[str, Any]) -> None:
        """Look at one row."""
        for name, column in self._columns.items():
            if isinstance(column, ImageColumn):
                self._sizes.setdefault(name, set()).add(row[name].array.shape)
            elif isinstance(column, TextColumn):
                self._longest[name] = max(self._longest.get(name, 0), len(row[name]))
                if split == "train":
                    self._characters.setdefault(name, set()).update(row[name])

    def columns(self) -> dict[str, Column]:
        """The columns with all that was learned."""
        return {name: self._complete(name, column) for name, column in self._columns.items()}

    def _complete(self, name: str, column: Column) -> Column:
        if isinstance(column, ImageColumn):
            sizes = self._sizes.get(name, set())
            heights, widths, channels = ({size[i] for size in sizes} for i in range(3))
            return ImageColumn(
                height=heights.pop() if len(heights) == 1 else None,
                width=widths.pop() if len(widths) == 1 else None,
                channels=max(channels, default=column.channels),
            )
        if isinstance(column, TextColumn):
            vocabulary = tuple(sorted(self._characters.get(name, set())))
            return TextColumn(vocabulary=vocabulary, max_chars=self._longest.get(name, 0))
        return column
