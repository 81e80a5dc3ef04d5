"""Scores: Standard MIDI Files in folders, by class or not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from genloom import Notes, NotesColumn
from genloom.data import Column
from genloom.formats import BadRow, Files, Format, SourceRow, Unit, grouped
from genloom_platform.data.formats.folders import Folders, folders_of, rows_of

SUFFIXES = (".mid", ".midi")


class MidiFolder(Format):
    """Scores, with the class and the split that their folders name; the files are kept as they are."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "a folder or an archive of MIDI files, in folders by class or not"

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The score, and its class where there are class folders."""
        return {"notes": NotesColumn(), **_folders(files).label_columns()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Groups of files."""
        return grouped(files, SUFFIXES)

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """The files' bytes, of those that can be read and hold a note."""

        def read(name: str) -> bytes:
            with files.open(name) as file:
                content = file.read()
            _check(content)
            return content

        yield from rows_of(_folders(files), files, unit, "notes", read)


def _folders(files: Files) -> Folders:
    return folders_of(files, SUFFIXES, "MIDI file")


def _check(content: bytes) -> None:
    """Raise ValueError where a file has no notes that can be read."""
    if not content:
        raise ValueError("the file is empty")
    try:
        score = Notes.from_bytes(content)
    except ValueError:
        raise
    except Exception as error:  # mido meets some damage with errors of its own, as KeySignatureError
        raise ValueError(f"not a readable MIDI file: {error}") from error
    if not score.notes:
        raise ValueError("the score holds no note")
