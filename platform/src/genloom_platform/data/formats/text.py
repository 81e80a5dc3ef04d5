"""Plain text as passages in the order of the text: any text, and the text8 and enwik8 files.

A text is cut into blocks of a fixed number of bytes, a block into passages; a character belongs to the
block in which it starts. So every block can be read alone, and the passages, one after the other, are
the text. The last part of the bytes is held out, so that no passage stands in two splits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

from pydantic import Field

from genloom.data import Column, TextColumn
from genloom.errors import DataError, RequestError
from genloom.formats import UNIT_BYTES, BadRow, Files, Format, SourceRow, Unit, grouped, ranges
from genloom_platform.data.formats.places import named, where

BLOCK_BYTES = 1 << 20
"""What a passage never crosses; a unit is a whole number of them."""
KEY_DIGITS = 10
FOREIGN = re.compile(rb"[^a-z ]")
SURROGATE = re.compile("[\udc80-\udcff]")


class TextFiles(Format):
    """A text file, or a folder of .txt files that are read as one text, in the order of their names."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "a text file, or a folder of .txt files, in UTF-8"

    test: float = Field(default=0.1, ge=0, lt=1)
    """The share of bytes held out at the end."""
    passage: int = Field(default=1024, ge=1, le=BLOCK_BYTES)
    """Characters of a row; the last of each mebibyte is shorter."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """One column, `text`."""
        named(files, (".txt",), ".txt file")
        return {"text": TextColumn()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Small files together, large ones in ranges."""
        names = named(files, (".txt",), ".txt file")
        units = grouped(files, names=[name for name in names if files.sizes[name] <= UNIT_BYTES])
        for name in names:
            if files.sizes[name] > UNIT_BYTES:
                units += ranges(files, name)
        return units

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """Passages; the key is the offset of the first byte, such that sorted keys give the text."""
        starts: dict[str, int] = {}
        total = 0
        for name in named(files, (".txt",), ".txt file"):
            starts[name] = total
            total += files.sizes[name]
        held_out = total - int(total * self.test)
        for name in unit.files:
            cuts = {"train": 0, "test": min(max(held_out - starts[name], 0), files.sizes[name])}
            yield from _passages(files, name, unit, cuts, self.passage)


class Text8(Format):
    """The text8 and enwik8 files, split as published: the first 90 % train, 5 % validation, 5 % test.

    Source: Matt Mahoney, About the Test Data, 2006 (text8 and enwik8); the splits are those of
    Mikolov et al., Subword Language Modeling with Neural Networks, 2012.
    """

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "the text8 or enwik8 file"

    alphabet: bool = True
    """Whether every byte must be a letter from a to z or a space, as in text8; switch it off for enwik8."""
    passage: int = Field(default=1024, ge=1, le=BLOCK_BYTES)
    """Characters of a row; the last of each mebibyte is shorter."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """One column, `text`."""
        self._name(files)
        return {"text": TextColumn()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of the file."""
        return ranges(files, self._name(files))

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """Passages, as of `TextFiles`."""
        name = self._name(files)
        size = files.sizes[name]
        cuts = {"train": 0, "validation": size * 90 // 100, "test": size * 95 // 100}
        yield from _passages(files, name, unit, cuts, self.passage, self.alphabet)

    def _name(self, files: Files) -> str:
        if len(files.sizes) != 1:
            raise RequestError(
                f"{files.url} holds {len(files.sizes)} files; give the text8 file itself"
            )
        (name,) = named(files, (), "text8 file")
        return name


def _passages(
    files: Files, name: str, unit: Unit, cuts: Mapping[str, int], length: int, alphabet: bool = False
) -> Iterator[SourceRow | BadRow]:
    """The passages of the blocks that start in a unit; `cuts` says where splits begin, in order."""
    size = files.sizes[name]
    digits = max(KEY_DIGITS, len(str(size)))
    stop = size if unit.stop is None else unit.stop
    edges = {*range(0, size, BLOCK_BYTES), *(min(cut, size) for cut in cuts.values()), size}
    pieces = [
        (start, end)
        for start, end in pairwise(sorted(edges))
        if unit.start <= start - start % BLOCK_BYTES < stop
    ]
    for start, offset, text in _characters(files, name, pieces, alphabet):
        split = [split for split, cut in cuts.items() if cut <= start][-1]
        for first in range(0, len(text), length):
            passage = text[first : first + length]
            content = passage.encode(errors="surrogateescape")
            key = f"{name}:{offset:0{digits}}"
            fault = _fault(passage, where(files, name), offset)
            yield BadRow(key, fault, content) if fault else SourceRow(key, {"text": passage}, split)
            offset += len(content)


def _characters(
    files: Files, name: str, pieces: Sequence[tuple[int, int]], alphabet: bool
) -> Iterator[tuple[int, int, str]]:
    """For adjacent ranges of bytes: where the range and its first character start, and its characters.

    Reads forwards only, for a file within a zip archive can do nothing else cheaply.
    """
    ahead = b""
    with files.open(name) as file:
        for number, (start, end) in enumerate(pieces):
            if number == 0:
                file.seek(start)
            data = ahead + file.read(end - start + 3 - len(ahead))
            ahead = data[end - start :]
            first = _continued(data) if start else 0
            data = data[first : end - start + _continued(ahead)]
            yield start, start + first, _decode(data, where(files, name), start + first, alphabet)


def _continued(data: bytes) -> int:
    """How many bytes, at most three, belong to a character that started before."""
    return next((count for count, byte in enumerate(data[:3]) if byte & 0xC0 != 0x80), len(data[:3]))


def _decode(data: bytes, name: str, start: int, alphabet: bool) -> str:
    foreign = FOREIGN.search(data) if alphabet else None
    if foreign:
        raise DataError(
            f"{name} is not text8, whose alphabet is a to z and the space: byte {foreign[0][0]:#04x} at "
            f"offset {start + foreign.start():,}; give text8 as published, or set alphabet=false for enwik8"
        )
    # A byte that is no UTF-8 becomes a lone surrogate: it costs the passage that it stands in.
    return data.decode(errors="surrogateescape")


def _fault(passage: str, name: str, offset: int) -> str:
    """What is wrong with a passage, with its place, or nothing."""
    wrong = SURROGATE.search(passage)
    if not wrong:
        return ""
    at = offset + len(passage[: wrong.start()].encode(errors="surrogateescape"))
    return (
        f"{name} is not UTF-8 text: byte {ord(wrong[0]) - 0xDC00:#04x} at offset {at:,}; convert it first "
        f"(iconv -f ENCODING -t UTF-8)"
    )
