"""Files of lines, large ones in byte ranges: a line belongs to the range in which it starts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genloom.errors import DataError
from genloom.formats import UNIT_BYTES, Files, Unit, grouped, ranges
from genloom_platform.data.formats.compressed import BLOCK_BYTES, blocks
from genloom_platform.data.formats.places import where

MAX_LINE_BYTES = 64 << 20
PACKED = (".gz", ".bz2")


@dataclass(frozen=True)
class LineRange(Unit):
    """A byte range that knows its line numbers, so that its reader need not count what lies before."""

    line: int = 1
    """The number of the line in which `start` lies."""


def line_units(files: Files, names: Sequence[str]) -> list[Unit]:
    """Units of lines: small and compressed files together, large ones in ranges.

    Large files are read once here, to count their lines.
    """
    large = [n for n in names if files.sizes[n] > UNIT_BYTES and not n.lower().endswith(PACKED)]
    units = grouped(files, names=[name for name in names if name not in set(large)])
    for name in large:
        units += _counted(files, name, ranges(files, name))
    return units


def numbered(files: Files, unit: Unit) -> Iterator[tuple[str, int, bytes]]:
    """File, line number and line, with its ending, of the lines of a unit.

    Raises:
        DataError: A line is too long, or a compressed file is damaged.
    """
    for name in unit.files:
        if unit.stop is None:
            lines = split(blocks(files, name), where(files, name))
            for number, line in enumerate(lines, 1):
                yield name, number, line
        else:
            yield from _range(files, name, unit)


def split(pieces: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Lines with their endings, out of blocks of bytes."""
    pending = b""
    for piece in pieces:
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(pending) > MAX_LINE_BYTES:
            raise DataError(
                f"{name} has a line of more than {MAX_LINE_BYTES:,} bytes; it is no file of lines, or its "
                f"lines must be cut"
            )
    if pending:
        yield pending


def _range(files: Files, name: str, unit: Unit) -> Iterator[tuple[str, int, bytes]]:
    """The lines that start in a range: what stands before the first of them is the former range's."""
    first = max(unit.start - 1, 0)
    with files.open(name) as file:
        number = unit.line if isinstance(unit, LineRange) else 1 + _newlines(file, 0, unit.start)
        file.seek(first)
        place = first
        for line in split(iter(lambda: file.read(BLOCK_BYTES), b""), where(files, name)):
            start, place = place, place + len(line)
            if start < unit.start:
                number += line != b"\n"
                continue
            if unit.stop is not None and start >= unit.stop:
                return
            yield name, number, line
            number += 1


def _counted(files: Files, name: str, units: Sequence[Unit]) -> Iterator[LineRange]:
    line = 1
    with files.open(name) as file:
        for unit in units:
            yield LineRange(unit.files, unit.start, unit.stop, unit.size_bytes, line)
            line += _newlines(file, unit.start, unit.stop or unit.start)


def _newlines(file: BinaryIO, start: int, stop: int) -> int:
    file.seek(start)
    count, left = 0, stop - start
    while left and (block := file.read(min(BLOCK_BYTES, left))):
        count += block.count(b"\n")
        left -= len(block)
    return count
