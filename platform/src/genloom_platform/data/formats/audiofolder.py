"""Sounds in folders: `<class>/x.wav` or `<split>/<class>/x.wav`, brought to one sample rate."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from genloom import Audio, AudioColumn
from genloom.data import Column
from genloom.errors import DataError
from genloom.formats import BadRow, Files, Format, SourceRow, Unit, grouped
from genloom_platform.data.formats.folders import Folders, folders_of, rows_of
from genloom_platform.data.formats.sounds import MAX_S, RATE_HZ, Sounds, channels_of

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class AudioFolder(Format):
    """Sounds, with the class and the split that their folders name."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = (
        "a folder or an archive of WAV, FLAC, Ogg and MP3 files, in folders by class or not"
    )

    rate_hz: int = Field(default=RATE_HZ, gt=0)
    """The sample rate that all sounds are brought to."""
    mono: bool = True
    """Whether channels are averaged; if not, all sounds must have as many as the first."""
    max_s: float = Field(default=MAX_S, gt=0)
    """The length in seconds above which a sound is bad."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The sound, and its class where there are class folders."""
        folders = _folders(files)
        audio = AudioColumn(rate_hz=self.rate_hz, channels=self._channels(files))
        return {"audio": audio, **folders.label_columns()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Groups of files."""
        return grouped(files, SUFFIXES)

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """The decoded sounds."""
        sounds = Sounds(self.rate_hz, self.mono, self.max_s)
        channels = self._channels(files)

        def read(name: str) -> Audio:
            audio = sounds.read(files, name)
            if len(audio.waveform) != channels:
                raise ValueError(
                    f"the sound has {len(audio.waveform)} channels where the first has {channels}; "
                    f"mono = true averages them"
                )
            return audio

        yield from rows_of(_folders(files), files, unit, "audio", read)

    def _channels(self, files: Files) -> int:
        """One, or as many as the first readable sound has."""
        if self.mono:
            return 1
        for name in files.sizes:
            if name.lower().endswith(SUFFIXES):
                try:
                    return channels_of(files, name)
                except ValueError:
                    continue  # its own row says what is wrong with it
        raise DataError(f"{files.url} holds no sound that can be read; check the files")


def _folders(files: Files) -> Folders:
    return folders_of(files, SUFFIXES, "sound")
