"""Example rows for any `Data`, so that a generator can be tried before there is a dataset for it.

Four classes run through every row, and all its columns tell of them: a bright spot in one of four
places, a sentence of one of four subjects, a tone of one of four pitches. A model can learn them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from genloom.data import (
    AudioColumn,
    ClassColumn,
    Data,
    IdColumn,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    TensorColumn,
    TextColumn,
)
from genloom.samples import Audio, Image, Note, Notes

CLASSES = 4
KINDS: tuple[type[BaseModel], ...] = (
    ImageColumn,
    ClassColumn,
    TextColumn,
    AudioColumn,
    NotesColumn,
    NumberColumn,
    IdColumn,
    TensorColumn,
)
SIZES = (
    {"side": 16, "channels": 1, "rate_hz": 8000, "ms": 256, "sentences": 3},
    {"side": 32, "channels": 3, "rate_hz": 16000, "ms": 1000, "sentences": 8},
    {"side": 64, "channels": 3, "rate_hz": 22050, "ms": 2000, "sentences": 24},
)
"""Small rows make a fast test; a generator that refuses them is offered the next."""

_SUBJECTS = ("the red fox", "a grey heron", "the old miller", "every ship")
_VERBS = ("runs through", "waits beside", "looks across", "comes home to")
_PLACES = ("the quiet wood", "a frozen lake", "the narrow bridge", "a harbour at night")


def kind_of(annotation: Any) -> type[BaseModel] | None:
    """The kind of column that a field of a `Data` is typed as, or None where it is no column."""
    options = [annotation, *get_args(annotation)]
    return next((kind for kind in KINDS if kind in options), None)


def example_rows(data: type[Data], count: int, size: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with every column that a `Data` names, optional ones too.

    Args:
        data: A generator's own `Data`.
        count: How many.
        size: Which of `SIZES`.
        seed: The same seed gives the same rows.
    """
    rng = np.random.default_rng(seed)
    kinds = {name: kind_of(field.annotation) for name, field in data.model_fields.items()}
    return [
        {
            name: _value(kind, place, index, SIZES[size], rng)
            for place, (name, kind) in enumerate(kinds.items())
            if kind
        }
        for index in range(count)
    ]


def columns_of(data: type[Data], rows: Sequence[Mapping[str, Any]]) -> dict[str, BaseModel]:
    """What a manifest would state of some rows, for the columns that every row has."""
    kinds = {name: kind_of(field.annotation) for name, field in data.model_fields.items()}
    return {
        name: _column(kind, [row[name] for row in rows])
        for name, kind in kinds.items()
        if kind and all(name in row for row in rows)
    }


def _value(
    kind: type[BaseModel], place: int, index: int, size: Mapping[str, int], rng: np.random.Generator
) -> Any:
    """One value; `place` is the column's, so that two columns of a kind differ."""
    number = index % CLASSES
    if kind is ImageColumn:
        return Image(_spot(number, place, size, rng))
    if kind is ClassColumn:
        return number
    if kind is TextColumn:
        lines = [_sentence(number, rng) for _ in range(1 + int(rng.integers(size["sentences"])))]
        return " ".join(lines)
    if kind is AudioColumn:
        return Audio(_tone(number, place, size, rng), size["rate_hz"])
    if kind is NotesColumn:
        root = 48 + 5 * number + place
        return Notes([Note(root + step, 0.25 * i, 0.25) for i, step in enumerate((0, 4, 7, 12, 7, 4))])
    if kind is NumberColumn:
        return number + round(float(rng.uniform(0, 0.5)), 3)
    if kind is IdColumn:
        return number + CLASSES * int(rng.integers(3))
    wave = np.sin(np.arange(8) * (number + 1) / 2 + place)
    return (wave + 0.1 * rng.standard_normal(8)).astype(np.float32)


def _spot(
    number: int, place: int, size: Mapping[str, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A soft spot on a dark ground, [side, side, channels]; its quarter tells the class."""
    side = size["side"]
    y, x = np.mgrid[0:side, 0:side] / side
    row, column = divmod((number + place) % CLASSES, 2)
    jitter = rng.uniform(-0.06, 0.06, 2)
    distance = (y - 0.28 - 0.44 * row - jitter[0]) ** 2 + (x - 0.28 - 0.44 * column - jitter[1]) ** 2
    shades = np.linspace(1, 0.5, size["channels"])
    return np.rint(255 * np.exp(-distance / 0.02)[:, :, None] * shades).astype(np.uint8)


def _sentence(number: int, rng: np.random.Generator) -> str:
    return f"{_SUBJECTS[number]} {rng.choice(_VERBS)} {rng.choice(_PLACES)}."


def _tone(
    number: int, place: int, size: Mapping[str, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """A decaying tone, [1, time]; its pitch tells the class."""
    time_s = np.arange(size["rate_hz"] * size["ms"] // 1000) / size["rate_hz"]
    pitch_hz = 220 * 2 ** ((3 * number + place) / 12)
    phase, loudness = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.6)
    tone = loudness * np.sin(2 * np.pi * pitch_hz * time_s + phase) * np.exp(-2 * time_s / time_s[-1])
    return tone[None].astype(np.float32)


def _column(kind: type[BaseModel], values: Sequence[Any]) -> BaseModel:
    if kind is ImageColumn:
        height, width, channels = zip(*(image.array.shape for image in values), strict=True)
        return ImageColumn(height=_common(height), width=_common(width), channels=max(channels))
    if kind is ClassColumn:
        return ClassColumn(names=tuple(f"class {index}" for index in range(max(values) + 1)))
    if kind is TextColumn:
        return TextColumn(
            vocabulary=tuple(sorted(set("".join(values)))), max_chars=max(map(len, values))
        )
    if kind is AudioColumn:
        first: Audio = values[0]
        longest = max(audio.duration_s for audio in values)
        return AudioColumn(rate_hz=first.rate_hz, channels=first.waveform.shape[0], max_s=longest)
    if kind is NotesColumn:
        ends = [note.start_s + note.duration_s for score in values for note in score.notes]
        return NotesColumn(max_s=max(ends, default=0.0))
    if kind is NumberColumn:
        whole = all(isinstance(value, int) for value in values)
        return NumberColumn(minimum=min(values), maximum=max(values), integer=whole)
    if kind is IdColumn:
        return IdColumn(count=max(values) + 1)
    return TensorColumn(shape=values[0].shape, dtype=str(values[0].dtype))


def _common(sizes: Sequence[int]) -> int | None:
    return sizes[0] if len(set(sizes)) == 1 else None
