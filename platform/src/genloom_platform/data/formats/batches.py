"""Arrow record batches as rows of Python values; the bytes that they came from are not trusted."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import types

STEP_ROWS = 256


def rows_of(batch: pa.RecordBatch, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a batch, in the columns that are wanted.

    Raises:
        pa.ArrowInvalid: Offsets or indices lead out of the batch: the file is damaged, or made to harm.
    """
    names = [name for name in wanted if name in batch.schema.names]
    arrays = [_checked(batch.column(name)) for name in names]
    for start in range(0, batch.num_rows, STEP_ROWS):
        columns = [_values(array.slice(start, STEP_ROWS), as_text) for array, as_text in arrays]
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def _checked(array: pa.Array) -> tuple[pa.Array, bool]:
    """An array of plain values, checked in full, and whether it is text.

    Text is taken as bytes: where it is no UTF-8, that costs its row alone and not the file.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    array.validate()
    if types.is_dictionary(array.type):
        array.validate(full=True)
        array = array.dictionary_decode()
    as_text = True
    if types.is_string(array.type):
        array = array.cast(pa.binary())
    elif types.is_large_string(array.type):
        array = array.cast(pa.large_binary())
    elif types.is_string_view(array.type):
        array = array.cast(pa.binary_view())
    else:
        as_text = False
    array.validate(full=True)
    return array, as_text


def _values(array: pa.Array, as_text: bool) -> list[Any]:
    values = array.to_pylist()
    if not as_text:
        return values
    return [None if value is None else value.decode(errors="surrogateescape") for value in values]
