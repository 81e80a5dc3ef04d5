"""A look at a dataset: sixteen rows as a picture (images, spectrograms, piano rolls) or as text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genloom import Audio, Image, Notes
from genloom.data import ClassColumn
from genloom.errors import RequestError
from genloom_platform.data import encoding, shards
from genloom_platform.data.item import MEDIA
from genloom_platform.data.manifest import Manifest
from genloom_platform.store import Store

TILE = 192
"""Pixels along an edge of an example."""
GAP = 8
CAPTION = 22
FLOOR_DB = -80.0
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], float)
"""From silence to loud: dark to light for every eye, in print as well."""


def examples(store: Store, manifest: Manifest, split: str, count: int = 16) -> list[dict[str, Any]]:
    """Rows from all over a split, always the same ones."""
    split_shards = manifest.shards_of(split)
    chunks = [(shard, number) for shard in split_shards for number in range(len(shard.chunks))]
    starts = np.cumsum([0, *(shard.chunks[number] for shard, number in chunks)])
    found: list[dict[str, Any]] = []
    for row in np.unique(np.linspace(0, starts[-1] - 1, count).astype(int)):
        at = int(np.searchsorted(starts, row, side="right")) - 1
        table = shards.read_chunks(store, manifest, chunks[at][0], [chunks[at][1]])
        found += encoding.decode(manifest.columns, table.slice(row - starts[at], 1))
    return found


def picture(manifest: Manifest, rows: Sequence[dict[str, Any]]) -> Image:
    """Examples as one picture, each with its class beneath it.

    Raises:
        RequestError: The dataset has nothing to draw.
    """
    from PIL import Image as pil
    from PIL import ImageDraw

    media = next((n for n, column in manifest.columns.items() if column.kind in MEDIA), None)
    if media is None:
        raise RequestError(
            f"{manifest.full_name} has no images, sounds or notes to draw; leave --picture out"
        )
    captions = [_caption(manifest, row) for row in rows]
    step = TILE + GAP
    high = step + (CAPTION if any(captions) else 0)
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    sheet = pil.new("RGB", (columns * step + GAP, lines * high + GAP), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        left, top = GAP + number % columns * step, GAP + number // columns * high
        tile = _tile(row[media])
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        draw.text((left, top + TILE + 4), caption, fill=(60, 60, 60), font_size=13)
    return Image(np.asarray(sheet))


def _caption(manifest: Manifest, row: dict[str, Any]) -> str:
    words = [
        column.names[row[name]]
        for name, column in manifest.columns.items()
        if isinstance(column, ClassColumn)
    ]
    texts = [row[name] for name, column in manifest.columns.items() if column.kind == "text"]
    caption = " · ".join([*words, *texts])
    return caption if len(caption) <= 28 else f"{caption[:27]}…"


def _tile(sample: Any) -> Any:
    """A sample as a picture within the tile."""
    from PIL import Image as pil

    if isinstance(sample, Image):
        array = sample.array.repeat(3, 2) if sample.array.shape[2] == 1 else sample.array[:, :, :3]
    elif isinstance(sample, Audio):
        array = spectrogram(sample)
    else:
        array = piano_roll(sample)
    tile = pil.fromarray(np.ascontiguousarray(array))
    scale = TILE / max(tile.size)
    whole = max(1, int(scale)) if scale >= 1 else scale
    method = pil.Resampling.NEAREST if scale >= 2 else pil.Resampling.LANCZOS
    if not isinstance(sample, Image):
        return tile.resize((TILE, TILE), pil.Resampling.BILINEAR)
    return tile.resize([max(1, round(edge * whole)) for edge in tile.size], method)


def spectrogram(sound: Audio, bands: int = 96) -> NDArray[np.uint8]:
    """Loudness over time (to the right) and pitch (upwards, on the mel scale), shape [bands, frames, 3]."""
    import torch

    wave = torch.from_numpy(sound.waveform.mean(0))
    size = 1024
    wave = torch.nn.functional.pad(wave, (0, max(0, size - len(wave))))
    window = torch.hann_window(size)
    power = torch.stft(wave, size, size // 4, window=window, return_complex=True).abs().square().numpy()
    edges_mel = np.linspace(0, 2595 * np.log10(1 + sound.rate_hz / 2 / 700), bands + 1)
    edges = 700 * (10 ** (edges_mel / 2595) - 1) / (sound.rate_hz / 2) * (len(power) - 1)
    low = np.floor(edges[:-1]).astype(int)
    high = np.maximum(low + 1, np.ceil(edges[1:]).astype(int))
    mel = np.stack([power[a:b].mean(0) for a, b in zip(low, high, strict=True)])
    level = 10 * np.log10(np.maximum(mel, 1e-12) / max(mel.max(), 1e-12))
    return _heat(np.clip(1 - level / FLOOR_DB, 0, 1)[::-1])


def piano_roll(score: Notes, frames: int = TILE) -> NDArray[np.uint8]:
    """Notes over time (to the right) and pitch (upwards), shape [pitches, frames, 3]."""
    end = max((note.start_s + note.duration_s for note in score.notes), default=1.0) or 1.0
    pitches = [note.pitch for note in score.notes] or [60]
    low, high = max(0, min(pitches) - 6), min(127, max(pitches) + 6)
    roll = np.zeros((high - low + 1, frames))
    for note in score.notes:
        start = int(note.start_s / end * frames)
        stop = max(start + 1, int((note.start_s + note.duration_s) / end * frames))
        roll[high - note.pitch, start:stop] = note.velocity / 127
    return _heat(roll)


def _heat(level: NDArray[Any]) -> NDArray[np.uint8]:
    at = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(level, at, HEAT[:, c]) for c in range(3)], -1).astype(np.uint8)
