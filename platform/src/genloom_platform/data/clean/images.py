"""Cleaning of images."""

from typing import Any

import numpy as np

from genloom import Image
from genloom_platform.data.clean.rules import ImageRules
from genloom_platform.data.item import Dropped, Item

CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
PIL_MODES = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}


def clean_image(rules: ImageRules, column: str, item: Item) -> Item | Dropped:
    """The row with its image as the rules want it, or why it is dropped."""
    image: Image = item.values[column]
    fault = _fault(rules, image)
    if fault:
        return Dropped(item, *fault)
    changed = image
    if rules.mode and image.array.shape[2] != CHANNELS[rules.mode]:
        changed = _converted(changed, rules.mode)
    if rules.size and changed.array.shape[:2] != rules.size:
        changed = _fitted(changed, *rules.size)
    return item if changed is image else item.having(**{column: changed})


def near_hash(image: Image) -> int:
    """The perceptual hash of an image, 64 bits: the signs of its low frequencies.

    Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010; by imagehash.
    """
    import imagehash

    bits = imagehash.phash(_pil(image).convert("L")).hash
    return int.from_bytes(np.packbits(bits).tobytes())


def _fault(rules: ImageRules, image: Image) -> tuple[str, str] | None:
    height, width, channels = image.array.shape
    size = f"{width} × {height} pixels"
    if rules.min_side and min(height, width) < rules.min_side:
        return "too small", f"{size}; the shorter edge must have {rules.min_side}"
    if rules.max_side and max(height, width) > rules.max_side:
        return "too large", f"{size}; the longer edge may have {rules.max_side}"
    if rules.max_aspect and max(height, width) > rules.max_aspect * min(height, width):
        return "too long", f"{size}; the edges may differ by a factor of {rules.max_aspect:g}"
    if rules.mode and rules.other_mode == "drop" and channels != CHANNELS[rules.mode]:
        return "wrong mode", f"{channels} channels; {rules.mode} has {CHANNELS[rules.mode]}"
    if rules.min_deviation is not None:
        deviation = float(image.array.std()) / 255
        if deviation < rules.min_deviation:
            return "blank", f"pixels vary by {deviation:.3g} of 1; {rules.min_deviation:g} is wanted"
    return None


def _pil(image: Image) -> Any:
    from PIL import Image as pil

    return pil.fromarray(image.array[:, :, 0] if image.array.shape[2] == 1 else image.array)


def _converted(image: Image, mode: str) -> Image:
    return Image(np.asarray(_pil(image).convert(PIL_MODES[mode])))


def _fitted(image: Image, height: int, width: int) -> Image:
    """The middle of the image in the wanted proportions, scaled (Lanczos)."""
    from PIL import Image as pil
    from PIL import ImageOps

    return Image(np.asarray(ImageOps.fit(_pil(image), (width, height), pil.Resampling.LANCZOS)))
