"""Archives: the members of a zip or a tar, none of which may leave its folder or be a bomb."""

import io
import lzma
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol

from genloom.errors import DataError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
BOMB_BYTES = 1 << 30
BOMB_RATIO = 200
"""More than this many bytes for each packed one, over a gigabyte in all, is no data set: even plain
text packs twenty to one at most."""
COPY_BYTES = 4 << 20
UNSUPPORTED = (NotImplementedError, RuntimeError)
"""What zipfile raises for a compression that it does not know, and for a member with a password."""


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> Any:
        """Take some bytes."""
        ...


def kind_of(path: str) -> str | None:
    """`zip`, `tar`, or None for a file that is no archive, by its suffix."""
    name = path.lower()
    if name.endswith(".zip"):
        return "zip"
    return "tar" if name.endswith(TAR_SUFFIXES) else None


def zip_sizes(file: BinaryIO, where: str) -> dict[str, int]:
    """The members of a zip and their sizes, sorted.

    Raises:
        DataError: It is cut short, has an unsafe member, or is a bomb.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
    ) as error:  # ValueError: a seek out of the file
        raise DataError(f"{where} is not a whole zip archive: {error}; download it again") from error
    for member in members:
        refuse_escape(member.filename, where)
        _refuse_bomb(where, member.file_size, member.compress_size, f" in {member.filename!r}")
    return dict(sorted((member.filename, member.file_size) for member in members))


def open_zip_member(archive: zipfile.ZipFile, name: str, where: str) -> BinaryIO:
    """A member of a zip, for reading."""
    try:
        member = archive.open(name)
    except (zipfile.BadZipFile, *UNSUPPORTED) as error:
        raise DataError(f"{where}: the member {name!r} cannot be read: {error}") from error
    return Checked(member, f"{where}/{name}")  # type: ignore[return-value]


def lay_out(file: BinaryIO, packed: int, blob: Sink, where: str) -> dict[str, tuple[int, int]]:
    """Copy a tar's members, one after the other; returns the offset and size of each.

    Raises:
        DataError: It is cut short, has an unsafe member, or is a bomb.
    """
    spans: dict[str, tuple[int, int]] = {}
    place = 0
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                refuse_escape(member.name, where)
                linked = member.linkname.removeprefix("./")
                if member.islnk() and linked in spans:
                    spans[member.name.removeprefix("./")] = spans[linked]
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                _refuse_bomb(where, place + member.size, packed, "")
                start = place
                while block := content.read(COPY_BYTES):
                    blob.write(block)
                    place += len(block)
                spans[member.name.removeprefix("./")] = (start, place - start)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{where} is not a whole tar archive: {error}; download it again") from error
    return spans


def refuse_escape(name: str, where: str) -> None:
    """Raise DataError where a member's name leads out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise DataError(
            f"{where} holds a member {name!r} that leads out of its folder; such an archive is not to be "
            f"trusted, get it from its publisher"
        )


def _refuse_bomb(where: str, size: int, packed: int, member: str) -> None:
    if size > BOMB_BYTES and size > BOMB_RATIO * max(packed, 1):
        raise DataError(
            f"{where}{member} unpacks to over {size:,} bytes from {packed:,}, more than {BOMB_RATIO} to 1: "
            f"it is a decompression bomb; unpack it yourself if you trust it, and import the folder"
        )


class _Member(io.RawIOBase, ABC):
    """A file within a file, for reading at any place."""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    @abstractmethod
    def read(self, size: int = -1) -> bytes:
        """Some bytes, or all that are left."""

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Slice(_Member):
    """A range of a file as a file of its own; closing it closes the whole."""

    def __init__(self, whole: BinaryIO, start: int, size: int) -> None:
        self._whole, self._start, self._size, self._at = whole, start, size, 0

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Some bytes, or all that are left."""
        left = self._size - self._at
        count = left if size < 0 else min(size, left)
        self._whole.seek(self._start + self._at)
        data = self._whole.read(count)
        self._at += len(data)
        return data

    def close(self) -> None:
        """Close the whole file too."""
        self._whole.close()
        super().close()


class Checked(_Member):
    """A zip's member; what is wrong with its bytes is told with its name."""

    def __init__(self, member: Any, where: str) -> None:
        self._member, self._where = member, where

    def tell(self) -> int:
        """Where the next read begins."""
        return self._member.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; backwards means to unpack from the start again."""
        return self._member.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        """Some bytes, or all that are left."""
        try:
            return self._member.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{self._where} is damaged: {error}; download the archive again") from error

    def close(self) -> None:
        """Close the member."""
        self._member.close()
        super().close()
