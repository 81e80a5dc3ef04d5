"""Generated pictures: smooth random fields with noise, so that PNG compresses them about as it does photos."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
CLASSES = 10
BLOCK = 500
"""Pictures that one task writes."""


def picture(number: int) -> Image.Image:
    """The picture of a number: two octaves of colour, and a sensor's noise."""
    rng = np.random.default_rng(number)
    octaves = [rng.integers(0, 256, (cells, cells, 3), np.uint8) for cells in (3, 9)]
    coarse, fine = (
        np.asarray(Image.fromarray(cells).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
        for cells in octaves
    )
    noise = rng.normal(0, 4, (SIDE, SIDE, 3)).astype(np.float32)
    return Image.fromarray((0.7 * coarse + 0.3 * fine + noise).clip(0, 255).astype(np.uint8))


def name_of(number: int) -> str:
    """Where a picture lies: all are training rows of a class."""
    return f"train/class-{number % CLASSES}/{number:07d}.png"


def write_pictures(folder: Path, count: int) -> Path:
    """Write pictures 0 … `count` - 1 below a folder, on all cores."""
    for label in range(CLASSES):
        (folder / name_of(label)).parent.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, BLOCK)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        list(pool.map(_write_block, [folder] * len(starts), starts, [count] * len(starts)))
    return folder


def _write_block(folder: Path, start: int, count: int) -> None:
    for number in range(start, min(start + BLOCK, count)):
        picture(number).save(folder / name_of(number))
