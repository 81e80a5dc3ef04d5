"""Plain text: a file or a folder of .txt files, as passages in the order of the text.

The last part of the bytes is the test split, so that no passage stands in both.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genloom import TextColumn
from genloom.errors import DataError, RequestError
from genloom_platform.data.formats import Source

NEEDS_SOURCE = True
OPTIONS: dict[str, Any] = {"test": 0.1, "passage": 1024}
BLOCK_BYTES = 1 << 20


def open_source(path: Path, options: dict[str, Any]) -> Source:
    """A text; `test` is the share of bytes held out at the end, `passage` the characters of a row."""
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise RequestError(f"the folder {path} holds no .txt file; give one that does, or a file")
    total = sum(file.stat().st_size for file in files)
    if total == 0:
        raise DataError(f"{path} is empty; give a text with characters in it")
    boundary = total - int(total * options["test"])

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        start = 0
        for file in files:
            size = file.stat().st_size
            cut = min(max(boundary - start, 0), size)
            for split, begin, end in (("train", 0, cut), ("test", cut, size)):
                for text in _passages(file, begin, end, options["passage"]):
                    yield split, {"text": text}
            start += size

    return Source({"text": TextColumn()}, rows, str(path), options)


def _passages(file: Path, begin: int, end: int, length: int) -> Iterator[str]:
    """The characters that start in a range of bytes, in pieces of one length; the last is shorter."""
    pending = ""
    for text in _characters(file, begin, end):
        pending += text
        while len(pending) >= length:
            yield pending[:length]
            pending = pending[length:]
    if pending:
        yield pending


def _characters(file: Path, begin: int, end: int) -> Iterator[str]:
    """Decode a range of bytes as UTF-8; a character that straddles an edge belongs to where it starts."""
    with file.open("rb") as source:
        begin, end = (_next_character(source, place) for place in (begin, end))
        source.seek(begin)
        carry = b""
        place = begin
        while place < end:
            block = source.read(min(BLOCK_BYTES, end - place))
            place += len(block)
            data = carry + block
            keep = len(data) if place == end else _whole(data)
            try:
                yield data[:keep].decode()
            except UnicodeDecodeError as error:
                at = place - len(data) + error.start
                raise DataError(
                    f"{file} is not UTF-8 text: byte {data[error.start]:#04x} at offset {at:,}; "
                    f"convert it first (iconv -f ENCODING -t UTF-8)"
                ) from error
            carry = data[keep:]


def _next_character(source: Any, place: int) -> int:
    """The first offset at or after `place` where a character starts."""
    source.seek(place)
    following = source.read(4)
    skipped = 0
    while skipped < min(3, len(following)) and following[skipped] & 0xC0 == 0x80:
        skipped += 1
    return place + skipped


def _whole(data: bytes) -> int:
    """How many bytes can be decoded without cutting the last character."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0xC0:
            return len(data) - back
        if byte & 0x80 == 0:
            return len(data)
    return len(data)
