"""Tables: what kind of column each of a table's columns is, by its Arrow type, or as the options say.

| Arrow type                              | kind                                             |
|-----------------------------------------|--------------------------------------------------|
| string                                  | text                                             |
| integer, float, decimal                 | number                                           |
| bool, dictionary of strings             | class                                            |
| binary, struct of bytes and path        | image; audio or notes if the first value is one  |
| list of numbers, of one length          | tensor, of the first value's shape               |
| anything else                           | none: the options must name it                   |
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import types

from genloom.data import (
    AudioColumn,
    ClassColumn,
    Column,
    IdColumn,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    TensorColumn,
    TextColumn,
)
from genloom.errors import DataError
from genloom_platform.data.formats.values import is_image, sound
from genloom_platform.data.shards import refuse_pickles

Kind = Literal["text", "class", "number", "id", "image", "audio", "notes", "tensor", "skip"]
ARRAYS = {f"datasets.features.features.Array{n}DExtensionType" for n in (2, 3, 4, 5)}
KNOWN_EXTENSIONS = {*ARRAYS, "arrow.fixed_shape_tensor"}
FITTING: dict[str, set[str]] = {
    "text": {"text"},
    "class": {"text", "whole numbers", "true or false"},
    "number": {"text", "whole numbers", "numbers"},
    "id": {"text", "whole numbers"},
    "image": {"bytes", "text"},
    "audio": {"bytes", "text"},
    "notes": {"bytes", "text"},
    "tensor": {"lists"},
}
"""What a column may be called that holds such values."""


@dataclass(frozen=True)
class Hint:
    """What the Hugging Face `datasets` library wrote of a column, beside its type."""

    kind: Kind
    names: tuple[str, ...] = ()
    """The classes, where it lists them."""


def hints(features: Mapping[str, Any]) -> dict[str, Hint]:
    """What a `features` object says that Arrow's types do not."""
    found: dict[str, Hint] = {}
    for name, feature in features.items():
        match feature.get("_type") if isinstance(feature, dict) else None:
            case "ClassLabel":
                count = feature.get("num_classes") or 0
                names = feature.get("names") or [str(index) for index in range(count)]
                found[name] = Hint("class", tuple(names))
            case "Image":
                found[name] = Hint("image")
            case "Audio":
                found[name] = Hint("audio")
            case _:
                pass
    return found


def schema_hints(schema: pa.Schema) -> dict[str, Hint]:
    """The hints that a file written by `datasets` carries in its schema."""
    stated = (schema.metadata or {}).get(b"huggingface")
    try:
        return hints(json.loads(stated)["info"]["features"]) if stated else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # not written by that library: then it tells nothing


def refuse_foreign(schema: pa.Schema, where: str) -> None:
    """Raise DataError where a column, or a part of one, holds pickles or is of an unknown extension type."""
    fields = [inner for field in schema for inner in _fields(field)]
    refuse_pickles(pa.schema(fields), where)
    for field in fields:
        extension = _extension(field)
        if extension and extension not in KNOWN_EXTENSIONS:
            raise DataError(
                f"{where}: the column {field.name!r} is of the extension type {extension!r}, which is not "
                f"known here; write it as plain numbers, text or bytes"
            )


def family(type: pa.DataType) -> str:
    """What a type holds, in a word or two: types of one family are read alike."""
    if isinstance(type, pa.BaseExtensionType):
        return family(type.storage_type)
    if types.is_dictionary(type):
        return family(type.value_type)
    if types.is_string(type) or types.is_large_string(type) or types.is_string_view(type):
        return "text"
    if types.is_integer(type):
        return "whole numbers"
    if types.is_floating(type) or types.is_decimal(type):
        return "numbers"
    if types.is_boolean(type):
        return "true or false"
    if types.is_null(type):
        return "nothing"
    if _is_binary(type) or _is_file(type):
        return "bytes"
    leaf = _leaf(type)
    return f"lists of {leaf}" if leaf is not None else str(type)


def kind_of(type: pa.DataType, first: Any) -> Kind | None:
    """The kind that a column has by its type and its first value, or None."""
    match family(type):
        case "text":
            return "class" if types.is_dictionary(type) else "text"
        case "whole numbers" | "numbers":
            return "number"
        case "true or false":
            return "class"
        case "bytes":
            return _kind_of_file(first)
        case _:
            axes = getattr(type, "permutation", None)
            in_order = axes is None or list(axes) == sorted(axes)
            return "tensor" if _leaf(type) is not None and in_order else None


def fits(kind: Kind, type: pa.DataType) -> bool:
    """Whether a column of that type can be read as that kind."""
    held = family(type)
    return kind == "skip" or held == "nothing" or held.partition(" of ")[0] in FITTING[kind]


def column_of(kind: Kind, type: pa.DataType, first: Any, names: tuple[str, ...] = ()) -> Column:
    """A column of a kind, by its type and its first value.

    Raises:
        ValueError: The first value is no such thing.
    """
    match kind:
        case "text":
            return TextColumn()
        case "class":
            return ClassColumn(names=names)
        case "number":
            return NumberColumn(minimum=0, maximum=0, integer=family(type) == "whole numbers")
        case "id":
            return IdColumn(count=0)
        case "image":
            return ImageColumn()
        case "notes":
            return NotesColumn()
        case "audio":
            heard = sound(first)
            return AudioColumn(rate_hz=heard.rate_hz, channels=len(heard.waveform))
        case _:
            shape = getattr(type, "shape", None) or np.shape(first)
            leaf = _leaf(type)
            dtype = np.asarray(first).dtype if leaf is None else np.dtype(leaf.to_pandas_dtype())
            return TensorColumn(shape=tuple(shape), dtype=dtype.name)


def needs_first(kind: Kind | None, type: pa.DataType) -> bool:
    """Whether the first value is needed to know the column."""
    if kind is None:
        return family(type) == "bytes" or family(type).startswith("lists")
    return kind in ("audio", "tensor")


def _kind_of_file(first: Any) -> Kind | None:
    if not isinstance(first, bytes):
        return None
    if is_image(first):
        return "image"
    if first.startswith(b"MThd"):
        return "notes"
    try:
        sound(first)
    except ValueError:
        return None
    return "audio"


def _fields(field: pa.Field) -> Iterator[pa.Field]:
    """A field and all that are nested in it."""
    yield field
    held = field.type
    while isinstance(held, pa.BaseExtensionType):
        held = held.storage_type
    if types.is_dictionary(held):
        yield from _fields(pa.field(field.name, held.value_type))
    for index in range(held.num_fields):
        yield from _fields(held.field(index).with_name(field.name))


def _extension(field: pa.Field) -> str:
    named = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
    return named or str(getattr(field.type, "extension_name", ""))


def _is_binary(type: pa.DataType) -> bool:
    sized = types.is_fixed_size_binary(type) and not types.is_decimal(type)
    return types.is_binary(type) or types.is_large_binary(type) or types.is_binary_view(type) or sized


def _is_file(type: pa.DataType) -> bool:
    """Whether it is how `datasets` stores an image or a sound: its bytes, and where they were."""
    if not types.is_struct(type) or {field.name for field in type} != {"bytes", "path"}:
        return False
    return _is_binary(type.field("bytes").type)


def _leaf(type: pa.DataType) -> pa.DataType | None:
    """The numbers that (nested) lists hold, or None."""
    if isinstance(type, pa.BaseExtensionType):
        return _leaf(type.storage_type)
    listed = types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type)
    if not listed:
        return None
    inner = type.value_type
    return inner if types.is_integer(inner) or types.is_floating(inner) else _leaf(inner)
