"""How far two things are apart that should be the same."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genloom.samples import Audio, Image, Sample, Text


def same(one: Any, other: Any) -> bool:
    """Whether two examples, rows, or values of them are equal, to the last bit."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (Sample, str)) or isinstance(other, (Sample, str)):
        return bool(one == other)
    ours, theirs = np.asarray(one), np.asarray(other)
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    return np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fc")


def apart(one: Sample, other: Sample) -> str:
    """How two samples differ, in words; empty where they are the same.

    Pictures may be 1 of 255 levels apart and sounds 1 of 32,767, for the sums of a batch are rounded
    otherwise than those of one sample; texts and scores must be equal.
    """
    if isinstance(one, Image) and isinstance(other, Image):
        if one.array.shape != other.array.shape:
            return f"shapes {list(one.array.shape)} and {list(other.array.shape)}"
        levels = int(np.abs(one.array.astype(int) - other.array.astype(int)).max(initial=0))
        return f"{levels} of 255 levels apart" if levels > 1 else ""
    if isinstance(one, Audio) and isinstance(other, Audio):
        if one.waveform.shape != other.waveform.shape or one.rate_hz != other.rate_hz:
            return f"lengths of {one.duration_s:.3f} s and {other.duration_s:.3f} s"
        levels = float(np.abs(one.waveform - other.waveform).max(initial=0)) * 32767
        return f"{levels:.0f} of 32,767 levels apart" if levels > 1 else ""
    if one == other:
        return ""
    if isinstance(one, Text) and isinstance(other, Text):
        return f"{_shortened(one.text)} and {_shortened(other.text)}"
    return "two different scores"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
