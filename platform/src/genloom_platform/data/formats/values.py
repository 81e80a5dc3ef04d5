"""Tables: one value of a column as a row holds it. What does not fit raises ValueError, in one clause."""

import io
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import soundfile

from genloom import Audio, Image
from genloom.data import (
    AudioColumn,
    ClassColumn,
    Column,
    IdColumn,
    NumberColumn,
    TensorColumn,
    TextColumn,
)

Reader = Callable[[Any], Any]
WHOLE = re.compile(r"[+-]?\d+")
INT64 = 1 << 63
MAX_SOUND_S = 7200
"""A longer sound is not unpacked: a small file may claim any length."""


def reader_of(column: Column, open_file: Callable[[str], bytes]) -> Reader:
    """How a column's values are read.

    Args:
        column: The column.
        open_file: The content of a file of the source, for media that a table holds by name; raises
            ValueError where there is none.
    """
    match column:
        case TextColumn():
            return text
        case ClassColumn(names=names):
            return (lambda value: _index(value, len(names))) if names else class_name
        case NumberColumn(integer=integer):
            return whole if integer else number
        case IdColumn():
            return whole
        case TensorColumn(shape=shape, dtype=dtype):
            return lambda value: _tensor(value, shape, np.dtype(dtype))
        case AudioColumn():
            return lambda value: sound(_file(value, open_file))
        case _:
            return lambda value: _file(value, open_file)


def text(value: Any) -> str:
    """A text; bytes that are no UTF-8 arrive as surrogates."""
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not UTF-8 at character {error.start:,}") from error
    return value


def class_name(value: Any) -> str:
    """A class by its name."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else text(value)


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, str) and "_" not in value:
        try:
            value = float(value)
        except ValueError as error:
            raise ValueError(f"{_shown(value)} is no number") from error
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError(f"{_shown(value)} is no number")
    try:
        finite = float(value)
    except OverflowError:
        finite = math.inf
    if not math.isfinite(finite):
        raise ValueError(f"the number {_shown(value)} is not finite")
    return finite


def whole(value: Any) -> int:
    """A whole number of 64 bits."""
    if isinstance(value, str) and WHOLE.fullmatch(value) and len(value) < 24:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is no whole number")
    if not -INT64 <= value < INT64:
        raise ValueError(f"{_shown(value)} does not fit 64 bits")
    return value


def sound(data: Any) -> Audio:
    """A sound from a file of any kind that libsndfile reads (WAV, FLAC, Ogg, MP3, AIFF …)."""
    if not isinstance(data, bytes):
        raise ValueError(f"{_shown(data)} is no sound file")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames > MAX_SOUND_S * file.samplerate:
                raise ValueError(f"the sound is longer than {MAX_SOUND_S:,} s")
            waveform = np.asarray(file.read(dtype="float32", always_2d=True), np.float32)
            return Audio(np.ascontiguousarray(waveform.T), file.samplerate)
    except soundfile.SoundFileError as error:
        raise ValueError(f"not a readable sound file: {error}") from error


def is_image(data: bytes) -> bool:
    """Whether `genloom.Image` can read it."""
    try:
        Image.from_bytes(data)
    except ValueError:
        return False
    return True


def _index(value: Any, count: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(f"{_shown(value)} is none of the classes 0 to {count - 1}")
    return value


def _tensor(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError("the lists within it differ in length") from error
    if array.size == int(np.prod(shape)) and array.ndim == 1:
        array = array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"its shape is {list(array.shape)}, not {list(shape)}")
    if array.dtype.kind not in ("iu" if dtype.kind in "iu" else "iuf"):
        raise ValueError(f"it does not hold {'whole ' if dtype.kind in 'iu' else ''}numbers alone")
    return array.astype(dtype)


def _file(value: Any, open_file: Callable[[str], bytes]) -> bytes:
    """The bytes of a file that a table holds, or that it names."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")  # pyright: ignore[reportUnknownMemberType]
    if isinstance(value, str):
        return open_file(value)
    if not isinstance(value, bytes) or not value:
        raise ValueError(f"{_shown(value)} is no file")
    return value


def _shown(value: Any, limit: int = 40) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else f"{shown[:limit]}…"
