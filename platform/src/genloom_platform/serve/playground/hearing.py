"""A score as sound, so that the page can play it: plain tones that fade, and no instrument's."""

import numpy as np

from genloom import Audio, Notes

RATE_HZ = 22_050
MAX_S = 120.0
"""Of a longer score its beginning is played."""
TAIL_S = 0.3
"""How long a tone goes on after its note has ended."""
FADE_S = 0.4
"""In this time a tone falls to a third."""
OVERTONES = (1.0, 0.35, 0.15)


def heard(score: Notes) -> Audio:
    """The sound of a score: (1, samples), at most as loud as can be."""
    notes = [note for note in score.notes if note.start_s < MAX_S]
    end_s = max((min(note.start_s + note.duration_s, MAX_S) for note in notes), default=0.0) + TAIL_S
    waveform = np.zeros(int(end_s * RATE_HZ), np.float32)
    for note in notes:
        start = int(note.start_s * RATE_HZ)
        length = min(int((note.duration_s + TAIL_S) * RATE_HZ), len(waveform) - start)
        waveform[start : start + length] += _tone(note.pitch, length) * note.velocity / 127
    loudest = float(np.abs(waveform).max(initial=0))
    return Audio((waveform / max(loudest, 1.0))[None] * 0.8, RATE_HZ)


def _tone(pitch: int, length: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """A tone of a MIDI pitch: 69 is 440 Hz, and each octave twice as high."""
    time_s = np.arange(length, dtype=np.float32) / RATE_HZ
    hz = 440.0 * 2 ** ((pitch - 69) / 12)
    waves = [
        share * np.sin(2 * np.pi * hz * number * time_s)
        for number, share in enumerate(OVERTONES, 1)
        if hz * number < RATE_HZ / 2
    ]
    attack = np.minimum(1, time_s / 0.005)
    ending = np.minimum(1, time_s[::-1] / 0.02)
    return (
        sum(waves, np.zeros(length, np.float32)) * attack * ending * np.exp(-time_s / FADE_S)
    ).astype(np.float32)
