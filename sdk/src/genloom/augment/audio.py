"""Augmentation of one sound, and of a spectrogram."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, NonNegativeInt, model_validator

from genloom.augment.augmentation import Augmentation, Share
from genloom.samples import Audio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOWEST_RATE_HZ = 1000
"""Below some 50 Hz Signalsmith Stretch never returns; sound starts far above."""

SNR = Annotated[float, Field(ge=-20, le=100)]


class AudioAugment(Augmentation):
    """Changes of tempo and pitch, then of loudness, then noise; the rate and channels stay.

    A sound that would pass full scale is made softer as a whole, and not clipped.
    """

    stretch: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Greatest change of tempo, as a share; the pitch stays. 0.1 draws tempi from 0.9 to 1.1."""
    pitch_semitones: Annotated[float, Field(ge=0, le=24)] = 0.0
    """Greatest change of pitch, either way; the tempo stays."""
    gain_db: Annotated[float, Field(ge=0, le=40)] = 0.0
    """Greatest change of loudness, either way."""
    noise_db: tuple[SNR, SNR] | None = None
    """Lowest and highest signal-to-noise ratio of white noise, as in [10, 40]; silence stays silent."""

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.noise_db and self.noise_db[0] > self.noise_db[1]:
            raise ValueError(
                f"noise_db = {list(self.noise_db)}: the lowest ratio comes first; swap them"
            )
        return self

    def __call__(self, audio: Audio, rng: "np.random.Generator") -> Audio:
        """A sound of the same rate and channels, within [-1, 1]; the same object where all is off.

        Its length differs where `stretch` is on.

        Raises:
            ValueError: The rate is below 1,000 Hz, and stretch or pitch_semitones is on.
        """
        if self == AudioAugment():
            return audio
        if self.stretch or self.pitch_semitones:
            tempo = 1 + rng.uniform(-self.stretch, self.stretch)
            semitones = rng.uniform(-self.pitch_semitones, self.pitch_semitones)
            audio = stretch_audio(audio, tempo, semitones, seed=int(rng.integers(2**31)))
        waveform = audio.waveform
        if self.gain_db:
            waveform = waveform * 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
        if self.noise_db and waveform.size:
            waveform = _noisy(waveform, rng.uniform(*self.noise_db), rng)
        return Audio(_within_full_scale(waveform), audio.rate_hz)


class SpecAugment(Augmentation):
    """Masks over bands of frequency and spans of time of a spectrogram.

    Source: Park et al. 2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
    Recognition", without its time warping. The widths are of its policy LibriSpeech Basic.
    """

    num_frequency_masks: NonNegativeInt = 0
    """How many bands of frequency are masked; they may overlap. 0 is off."""
    max_frequency_bins: NonNegativeInt = 27
    """Greatest width of a frequency mask; widths are drawn from 0 to it."""
    num_time_masks: NonNegativeInt = 0
    """How many spans of time are masked; they may overlap. 0 is off."""
    max_time_frames: NonNegativeInt = 100
    """Greatest width of a time mask; widths are drawn from 0 to it."""
    max_time_share: Share = 1.0
    """Greatest width of a time mask as a share of the spectrogram's length; the lower of both holds."""
    fill: float | None = None
    """What stands in the masks, or None for the spectrogram's mean."""

    def __call__(self, spectrogram: "NDArray[Any]", rng: "np.random.Generator") -> "NDArray[Any]":
        """A masked copy, of the same shape and dtype; the same object where there are no masks.

        Args:
            spectrogram: Shape [..., mel, time]; leading dimensions share the masks.
            rng: Where masks are drawn from.

        Raises:
            ValueError: The array has fewer than two dimensions.
        """
        if spectrogram.ndim < 2:
            raise ValueError(
                f"the spectrogram has the shape {list(spectrogram.shape)}; give one of [..., mel, time]"
            )
        if not self.num_frequency_masks and not self.num_time_masks:
            return spectrogram
        bins, frames = spectrogram.shape[-2:]
        fill = self.fill if self.fill is not None or not spectrogram.size else spectrogram.mean()
        masked = spectrogram.copy()
        for _ in range(self.num_frequency_masks):
            masked[..., _span(bins, min(self.max_frequency_bins, bins), rng), :] = fill
        widest = min(self.max_time_frames, int(self.max_time_share * frames))
        for _ in range(self.num_time_masks):
            masked[..., _span(frames, widest, rng)] = fill
        return masked


def stretch_audio(audio: Audio, tempo: float = 1.0, semitones: float = 0.0, seed: int = 0) -> Audio:
    """A sound at another tempo and another pitch, within [-1, 1]; neither changes the other.

    Args:
        audio: At least 1,000 Hz.
        tempo: Times as fast: the length becomes 1 / tempo of what it was. From 0.5 to 2 it sounds clean.
        semitones: How much higher; 12 is an octave.
        seed: For the phases that are drawn where the tempo is slow.

    Raises:
        ValueError: The rate is too low, or the tempo is not positive.
    """
    if audio.rate_hz < LOWEST_RATE_HZ or not 0 < tempo < math.inf:
        raise ValueError(
            f"a sound at {audio.rate_hz} Hz with tempo {tempo}: stretching takes {LOWEST_RATE_HZ} Hz or more "
            "and a positive tempo; resample it, or leave stretch and pitch off"
        )
    import numpy as np
    from python_stretch.Signalsmith import Stretch

    stretcher = Stretch(seed)
    stretcher.preset(audio.waveform.shape[0], audio.rate_hz)
    stretcher.setTimeFactor(tempo)
    stretcher.setTransposeSemitones(semitones)
    # A fresh copy: the library misreads arrays that are not in C order and refuses read-only ones.
    stretched = stretcher.process(np.array(audio.waveform, dtype=np.float32, order="C"))
    return Audio(_within_full_scale(np.asarray(stretched)), audio.rate_hz)


def _noisy(
    waveform: "NDArray[np.float32]", ratio_db: float, rng: "np.random.Generator"
) -> "NDArray[np.float32]":
    import numpy as np

    power = float(np.mean(np.square(waveform), dtype=np.float64))
    noise = rng.standard_normal(waveform.shape, dtype=np.float32)
    noise *= math.sqrt(power / 10 ** (ratio_db / 10))
    return waveform + noise


def _within_full_scale(waveform: "NDArray[np.float32]") -> "NDArray[np.float32]":
    import numpy as np

    peak = np.abs(waveform).max(initial=np.float32(1))
    return waveform / peak if peak > 1 else waveform


def _span(length: int, widest: int, rng: "np.random.Generator") -> slice:
    width = int(rng.integers(widest + 1))
    start = int(rng.integers(length - width + 1))
    return slice(start, start + width)
