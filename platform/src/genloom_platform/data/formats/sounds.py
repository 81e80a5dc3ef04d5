"""Sound files: decoded by libsndfile block by block, brought to one rate by soxr.

A WAV or FLAC that is cut short is refused, an MP3 where its header says how long it should be. An Ogg
file does not say so: of a cut one, the pages that are there are read.
"""

import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from genloom import Audio
from genloom.formats import Files

MAX_S = 3600.0
RATE_HZ = 22_050
BLOCK_VALUES = 1 << 20
COPY_BYTES = 1 << 20
MEMORY_BYTES = 64 << 20
"""A larger file is laid on the disk while it is decoded."""
STREAMED_BYTES = 0x7FFF0000
"""What a program that writes a WAV to a pipe gives as its length, or more."""
STREAMED_FRAMES = 1 << 62
"""The length of a FLAC that was written to a pipe, or more."""
MP3_SLACK_FRAMES = 2 * 1152
MP3_LENGTH_TAGS = (b"Xing", b"Info")


@dataclass(frozen=True)
class Sounds:
    """How sounds are wanted."""

    rate_hz: int = RATE_HZ
    mono: bool = True
    """Whether channels are averaged."""
    max_s: float = MAX_S
    """The length in seconds above which a sound is refused; before it is decoded, where its header says it."""

    def read(self, files: Files, name: str) -> Audio:
        """One sound; in memory is at most what comes out.

        Raises:
            ValueError: It cannot be read, is empty, too long, cut short, or not finite; says which.
        """
        with _opened(files, name) as (sound, copy):
            if sound.frames < STREAMED_FRAMES:
                self._check_length(sound.frames, sound.samplerate)
            channels = 1 if self.mono else sound.channels
            resampler = soxr.ResampleStream(sound.samplerate, self.rate_hz, channels, dtype="float32")
            parts: list[NDArray[np.float32]] = []
            decoded = 0
            for block in _blocks(sound):
                decoded += len(block)
                self._check_length(decoded, sound.samplerate)
                mixed = block.mean(axis=1, keepdims=True, dtype=np.float32) if self.mono else block
                parts.append(resampler.resample_chunk(mixed))
            parts.append(resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True))
            _check_end(sound, decoded, copy)
        waveform = np.concatenate(parts).T
        if not waveform.shape[1]:
            raise ValueError("the sound is empty")
        return Audio(np.ascontiguousarray(waveform), self.rate_hz)

    def _check_length(self, frames: int, rate_hz: int) -> None:
        if frames > self.max_s * rate_hz:
            raise ValueError(
                f"the sound has {frames / rate_hz:,.1f} s or more, max_s is {self.max_s:g}"
            )


class _Forward(soundfile.SoundFile):
    """A sound file that is read from its start to its end.

    Otherwise soundfile would seek after each read, after which an MP3's next values are other ones, and
    could not read a FLAC of unknown length.
    """

    def seekable(self) -> bool:
        """It is to be taken for a stream."""
        return False


def channels_of(files: Files, name: str) -> int:
    """How many channels a sound has; raises ValueError where it cannot be read."""
    with _opened(files, name) as (sound, _):
        return sound.channels


@contextmanager
def _opened(files: Files, name: str) -> Generator[tuple[soundfile.SoundFile, BinaryIO]]:
    """A sound file and the copy that it is decoded from; raises ValueError where it is none.

    The copy is there because libsndfile takes an error of the store for the end of the file, and because
    it moves back and forth, which costs a request or a second unpacking each time.
    """
    with SpooledTemporaryFile(MEMORY_BYTES) as spool:
        copy = cast(BinaryIO, spool)
        with files.open(name) as file:
            shutil.copyfileobj(file, copy, COPY_BYTES)
        size_bytes = copy.tell()
        if not size_bytes:
            raise ValueError("the file is empty")
        missing = _missing_of_wav(copy, size_bytes)
        if missing:
            raise ValueError(f"the file is cut short: {missing:,} bytes of its sound are missing")
        copy.seek(0)
        try:
            sound = _Forward(copy)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"not a readable sound file: {error.error_string}") from error
        with sound:
            yield sound, copy


def _blocks(sound: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    """What a file holds, block by block, shape [time, channels]."""
    size = max(1, BLOCK_VALUES // sound.channels)
    while True:
        try:
            block = cast(Any, sound.read(size, dtype="float32", always_2d=True))
        except soundfile.LibsndfileError as error:
            raise ValueError(f"the sound cannot be decoded: {error.error_string}") from error
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise ValueError("the sound holds values that are not finite")
        yield block


def _missing_of_wav(copy: BinaryIO, size_bytes: int) -> int:
    """How many bytes a WAV's data chunk lacks; libsndfile would take what is there."""
    copy.seek(0)
    head = copy.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0
    place = len(head)
    while len(chunk := copy.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        place += len(chunk)
        if chunk[:4] == b"data":
            return 0 if length >= STREAMED_BYTES else max(0, place + length - size_bytes)
        place += length + length % 2
        copy.seek(place)
    return 0


def _check_end(sound: soundfile.SoundFile, decoded: int, copy: BinaryIO) -> None:
    """Raise ValueError where less was decoded than the header says."""
    missing = sound.frames - decoded if sound.frames < STREAMED_FRAMES else 0
    if sound.format == "MP3":  # exact only where the header counts; else the length is an estimate
        copy.seek(0)
        head = copy.read(COPY_BYTES)
        counted = any(tag in head for tag in MP3_LENGTH_TAGS)
        missing = missing if counted and missing > MP3_SLACK_FRAMES else 0
    if missing > 0:
        raise ValueError(f"the file is cut short: {missing / sound.samplerate:,.2f} s are missing")
