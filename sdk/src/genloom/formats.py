"""The contract of a format: how a published layout of files becomes rows of a dataset.

A format is a frozen pydantic model, as a generator is: its fields are its options, documented under
each. It is found by an entry point in the group "genloom.formats" whose name is the format's name:

    class Postcards(genloom.Format):
        \"\"\"A folder of scanned postcards, each with a text file of the same name.\"\"\"

        contract = "1.0"
        reads = "a folder of .jpg files, each beside a .txt file"

        def columns(self, files):
            return {"image": ImageColumn(), "text": TextColumn()}

        def units(self, files):
            return grouped(files, (".jpg",))

        def rows(self, files, unit):
            for name in unit.files:
                with files.open(name) as image, files.open(name[:-4] + ".txt") as text:
                    yield SourceRow(name, {"image": image.read(), "text": text.read().decode()})

The platform reads the units in parallel, decodes what is a file, sets aside what cannot be read, cleans,
splits, shuffles, and writes the shards.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from genloom.data import Column

UNIT_BYTES = 32 << 20
UNIT_FILES = 2000


class Files(Protocol):
    """What a source holds: a file, a folder or the inside of an archive, on a disk or in S3."""

    @property
    def url(self) -> str:
        """The source as it was named, for messages."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file by its path within the source, sorted; a file's own name where it is one."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file for reading at any place."""
        ...


@dataclass(frozen=True)
class Unit:
    """A piece of a source that can be read alone: some files, or a range of one."""

    files: tuple[str, ...]
    start: int = 0
    stop: int | None = None
    """The range, in whatever the format counts (bytes, row groups); all where `stop` is None."""
    size_bytes: int = 0
    """About how much is read, for progress."""


@dataclass(frozen=True)
class SourceRow:
    """One row as the source has it."""

    key: str
    """Where it stands in the source, as in "cats/12.jpg" or "ratings.csv:17"; no two rows share one."""
    values: Mapping[str, Any]
    """Column → value. An image, a sound or notes may be given as the bytes of a file that
    `genloom.Image` and the like can read: it is then kept as it is. A class whose names the format does not
    know (`ClassColumn(names=())`), or an id of an unknown count, is given by its name."""
    split: str | None = None
    """The published split, or None where the source has none."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: set aside, or an error, as the import's policy says."""

    key: str
    reason: str
    """In one clause, as in "the rating 7 is above 5"."""
    content: bytes = field(default=b"", repr=False)
    """What stood there."""


class Format(BaseModel, ABC):
    """The base of all formats."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    contract: ClassVar[str]
    """The contract version that it was written for."""
    reads: ClassVar[str]
    """What it reads, in one clause, as in "a folder of WAV files"."""
    needs_source: ClassVar[bool] = True
    """False for data that comes with a library."""

    @abstractmethod
    def columns(self, files: Files) -> Mapping[str, Column]:
        """The columns, as far as they are known before the rows are read.

        Raises:
            DataError: The source is not in this format; says where and what to do.
            RequestError: An option does not fit the source.
        """

    @abstractmethod
    def units(self, files: Files) -> Sequence[Unit]:
        """The source cut into pieces that are read in parallel: the same pieces every time."""

    @abstractmethod
    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """The rows of one piece, one at a time: what is held in memory does not grow with the source.

        Raises:
            DataError: The source is cut short or is not what it claims to be.
        """


def grouped(
    files: Files, suffixes: tuple[str, ...] = (), names: Sequence[str] | None = None
) -> list[Unit]:
    """Units of whole files: those with a suffix (in any case), or those that are named."""
    chosen = names if names is not None else list(files.sizes)
    units: list[Unit] = []
    batch: list[str] = []
    size_bytes = 0
    for name in chosen:
        if suffixes and not name.lower().endswith(suffixes):
            continue
        batch.append(name)
        size_bytes += files.sizes[name]
        if size_bytes >= UNIT_BYTES or len(batch) >= UNIT_FILES:
            units.append(Unit(tuple(batch), size_bytes=size_bytes))
            batch, size_bytes = [], 0
    if batch:
        units.append(Unit(tuple(batch), size_bytes=size_bytes))
    return units


def ranges(files: Files, name: str, step_bytes: int = UNIT_BYTES) -> list[Unit]:
    """Units that are byte ranges of one file."""
    size = files.sizes[name]
    return [
        Unit((name,), start, min(start + step_bytes, size), min(step_bytes, size - start))
        for start in range(0, size, step_bytes)
    ]


__all__ = ["BadRow", "Files", "Format", "SourceRow", "Unit", "grouped", "ranges"]
