"""Cleaning of sounds."""

import numpy as np

from genloom import Audio
from genloom_platform.data.clean.rules import AudioRules
from genloom_platform.data.item import Dropped, Item

CLIPPED = 0.999


def clean_audio(rules: AudioRules, column: str, item: Item) -> Item | Dropped:
    """The row with its sound trimmed, or why it is dropped."""
    sound: Audio = item.values[column]
    changed = _trimmed(sound, rules.trim_db) if rules.trim_db else sound
    fault = _fault(rules, changed)
    if fault:
        return Dropped(item, *fault)
    return item if changed is sound else item.having(**{column: changed})


def _fault(rules: AudioRules, sound: Audio) -> tuple[str, str] | None:
    length = sound.duration_s
    if rules.min_s and length < rules.min_s:
        return "too short", f"{length:.2f} s; {rules.min_s:g} s are wanted"
    if rules.max_s and length > rules.max_s:
        return "too long", f"{length:.2f} s; {rules.max_s:g} s are allowed"
    loudness = np.abs(sound.waveform)
    if rules.min_peak is not None and loudness.max() < rules.min_peak:
        return "silent", f"the peak is {loudness.max():.3g} of 1; {rules.min_peak:g} is wanted"
    if rules.max_clipped is not None:
        clipped = float((loudness >= CLIPPED).mean())
        if clipped > rules.max_clipped:
            return "clipped", f"{clipped:.2%} stand at the limit; {rules.max_clipped:.2%} are allowed"
    return None


def _trimmed(sound: Audio, below_db: float) -> Audio:
    """Without the ends that are quieter than the peak by more than `below_db`; silence stays whole."""
    loudness = np.abs(sound.waveform).max(0)
    loud = np.flatnonzero(loudness >= loudness.max() * 10 ** (-below_db / 20))
    if loudness.max() == 0 or (loud[0] == 0 and loud[-1] == len(loudness) - 1):
        return sound
    return Audio(sound.waveform[:, loud[0] : loud[-1] + 1], sound.rate_hz)
