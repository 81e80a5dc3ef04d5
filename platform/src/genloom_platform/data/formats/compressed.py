"""Compressed files as a stream of blocks, and the streams within a multistream .bz2 file."""

import bz2
import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from genloom.errors import DataError
from genloom.formats import Files
from genloom_platform.data.formats.places import where

BLOCK_BYTES = 1 << 20
STREAM_HEADER = re.compile(rb"BZh[1-9]1AY&SY")
"""A bzip2 stream: its mark, its block size, and the magic number of its first block, 0x314159265359."""
HEADER_BYTES = 10


def blocks(files: Files, name: str) -> Iterator[bytes]:
    """A file's bytes, unpacked where its suffix is .gz or .bz2.

    Raises:
        DataError: It is not compressed, or is cut short.
    """
    with files.open(name) as file:
        if name.lower().endswith(".gz"):
            reader = gzip.GzipFile(fileobj=file)
        elif name.lower().endswith(".bz2"):
            reader = bz2.BZ2File(file)
        else:
            yield from iter(lambda: file.read(BLOCK_BYTES), b"")
            return
        while block := _unpack(reader, file, where(files, name)):
            yield block


def next_stream(file: BinaryIO, start: int, stop: int) -> int | None:
    """Where the first bzip2 stream begins whose header lies at `start` or after and before `stop`."""
    file.seek(start)
    place, window = start, b""
    while place < stop:
        window += file.read(BLOCK_BYTES)
        found = STREAM_HEADER.search(window)
        if found:
            return place + found.start() if place + found.start() < stop else None
        if len(window) < HEADER_BYTES:
            return None
        place += len(window) - HEADER_BYTES + 1
        window = window[1 - HEADER_BYTES :]
    return None


def stream(file: BinaryIO, start: int, name: str) -> Iterator[tuple[bytes, int]]:
    """What one bzip2 stream holds, block by block, each with the offset up to which the file was used.

    The last offset is where the stream ends.

    Raises:
        DataError: The stream is damaged or cut short.
    """
    file.seek(start)
    unpacker = bz2.BZ2Decompressor()
    place = start
    while not unpacker.eof:
        packed = b""
        if unpacker.needs_input:
            packed = file.read(BLOCK_BYTES // 4)
            if not packed:
                raise DataError(f"{name} is cut short at byte {place:,}; download it again")
        place += len(packed)
        try:
            block = unpacker.decompress(packed, BLOCK_BYTES)
        except OSError as error:
            raise DataError(
                f"{name} is damaged near byte {place:,}: {error}; download it again"
            ) from error
        yield block, place - len(unpacker.unused_data)


def _unpack(reader: gzip.GzipFile | bz2.BZ2File, file: BinaryIO, name: str) -> bytes:
    try:
        return reader.read(BLOCK_BYTES)
    except EOFError as error:
        raise DataError(f"{name} is cut short at byte {file.tell():,}; download it again") from error
    except (gzip.BadGzipFile, zlib.error, OSError) as error:
        raise DataError(
            f"{name} cannot be unpacked near byte {file.tell():,}: {error}; download it again"
        ) from error
