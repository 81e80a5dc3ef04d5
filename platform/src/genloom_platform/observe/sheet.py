"""A contact sheet: many images as one picture."""

import math
from collections.abc import Sequence

import numpy as np

from genloom import Image, Sample
from genloom.errors import RequestError

MIN_SIDE = 48
"""Smaller images are enlarged to about this many pixels, so that a person sees them."""
GAP = 4


def contact_sheet(samples: Sequence[Sample], columns: int | None = None) -> Image:
    """Images of one size in rows; about as wide as high where `columns` is None.

    Raises:
        RequestError: The samples are no images, or their sizes differ.
    """
    arrays = [_rgb(sample) for sample in samples if isinstance(sample, Image)]
    if not arrays or len(arrays) < len(samples) or len({array.shape for array in arrays}) > 1:
        raise RequestError("a sheet needs images of one size; leave --sheet out for other samples")
    height, width = arrays[0].shape[:2]
    zoom = max(1, round(MIN_SIDE / max(height, width)))
    columns = columns or _columns(len(arrays))
    rows = math.ceil(len(arrays) / columns)
    sheet = np.full(
        (rows * (height * zoom + GAP) + GAP, columns * (width * zoom + GAP) + GAP, 3), 32, np.uint8
    )
    for number, array in enumerate(arrays):
        top = GAP + number // columns * (height * zoom + GAP)
        left = GAP + number % columns * (width * zoom + GAP)
        sheet[top : top + height * zoom, left : left + width * zoom] = array.repeat(zoom, 0).repeat(
            zoom, 1
        )
    return Image(sheet)


def _columns(count: int) -> int:
    """The divisor of the count that is nearest to its root from above, or the root where none is near."""
    root = math.ceil(math.sqrt(count))
    return next((width for width in range(root, 2 * root + 1) if count % width == 0), root)


def _rgb(image: Image) -> np.ndarray:
    array = image.array
    return array.repeat(3, 2) if array.shape[2] == 1 else array[:, :, :3]
