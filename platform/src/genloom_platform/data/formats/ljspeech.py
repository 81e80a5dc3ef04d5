"""LJSpeech: sentences read aloud, each a WAV file and a line of `metadata.csv`.

Source: K. Ito and L. Johnson, The LJ Speech Dataset, 2017. A line is `id|text|normalised text`, without
header or quotes, in UTF-8; the sound is `wavs/<id>.wav`. Many sets of speech are published in this layout.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import Field

from genloom import Audio, AudioColumn, TextColumn
from genloom.data import Column
from genloom.errors import DataError
from genloom.formats import BadRow, Files, Format, SourceRow, Unit, ranges
from genloom_platform.data.formats.lines import numbered
from genloom_platform.data.formats.sounds import RATE_HZ, Sounds

TABLE = "metadata.csv"
FIELDS = 3
STEP_BYTES = 16 << 10
"""About a hundred lines of the table, with 30 MB of sound."""


class LJSpeech(Format):
    """Speech and what is said in it."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "LJSpeech's archive or folder: metadata.csv beside wavs/"

    normalised: bool = True
    """Whether the text has numbers and abbreviations written out: the third field, not the second."""
    rate_hz: int = Field(default=RATE_HZ, gt=0)
    """The sample rate that all sounds are brought to."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The sound and the text."""
        _table(files)
        return {"audio": AudioColumn(rate_hz=self.rate_hz), "text": TextColumn()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of the table, each with the sounds that it names."""
        table = _table(files)
        pieces = ranges(files, table.name, STEP_BYTES)
        sound_bytes = sum(table.wavs.values()) // max(1, len(pieces))
        return [replace(unit, size_bytes=unit.size_bytes + sound_bytes) for unit in pieces]

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """A row for each line; its key is the line's number, as in "metadata.csv:17"."""
        table = _table(files)
        sounds = Sounds(self.rate_hz)
        for name, number, line in numbered(files, unit):
            key = f"{name}:{number}"
            try:
                wav, text = self._fields(line.rstrip(b"\r\n"), number == 1)
                if wav not in table.wavs:
                    raise ValueError(f"wavs/{wav} is missing")
                audio = _read(sounds, files, table.folder, wav)
            except ValueError as error:
                yield BadRow(key, str(error), line)
                continue
            yield SourceRow(key, {"audio": audio, "text": text})

    def _fields(self, line: bytes, first: bool) -> tuple[str, str]:
        """The name of the sound and the text; raises ValueError where the line is malformed."""
        try:
            fields = line.decode("utf-8-sig" if first else "utf-8").split("|")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the line is not UTF-8 (byte {error.object[error.start]:#04x})"
            ) from error
        if len(fields) != FIELDS:
            raise ValueError(
                f"the line has {len(fields)} fields, not {FIELDS}: id|text|normalised text"
            )
        text = fields[2 if self.normalised else 1]
        if not text.strip():
            raise ValueError("the text is empty")
        return f"{fields[0]}.wav", text


@dataclass(frozen=True)
class _Table:
    name: str
    folder: str
    """Where it lies, with its slash."""
    wavs: Mapping[str, int]
    """Bytes of each sound by its name in wavs/."""


def _table(files: Files) -> _Table:
    """The table, wherever it lies in the source, and the sounds beside it."""
    sizes = files.sizes
    found = [name for name in sizes if name.rpartition("/")[2] == TABLE]
    if len(found) != 1:
        shown = ", ".join(found[:5]) if found else f"no {TABLE}"
        raise DataError(f"{files.url} holds {shown}; give the folder or archive of one LJSpeech set")
    folder = found[0].removesuffix(TABLE)
    start = f"{folder}wavs/"
    wavs = {name[len(start) :]: size for name, size in sizes.items() if name.startswith(start)}
    if not wavs:
        raise DataError(f"{files.url} holds {found[0]} but no sound in {start}; give the whole archive")
    return _Table(found[0], folder, wavs)


def _read(sounds: Sounds, files: Files, folder: str, wav: str) -> Audio:
    try:
        return sounds.read(files, f"{folder}wavs/{wav}")
    except ValueError as error:
        raise ValueError(f"wavs/{wav}: {error}") from error
