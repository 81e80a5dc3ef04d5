"""Sources: a path or URL as the files that it holds, whether a file, a folder or an archive.

An archive shows its members. A zip is read in place; a tar has no index, so it is laid out once as one
plain file in the store, beside what is imported, where every worker of a cluster reaches it.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from genloom.errors import RequestError, StoreError
from genloom_platform.data import archives
from genloom_platform.store import Store

BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Files below a path of a file system: all that it takes to open them anywhere on a cluster."""

    url: str
    root: str

    @property
    def remote(self) -> bool:
        """Whether it lies in S3."""
        return self.url.startswith("s3://")

    @cached_property
    def fs(self) -> pafs.FileSystem:
        """The file system that it lies in."""
        return Store(self.url).fs if self.remote else pafs.LocalFileSystem()

    def open(self, name: str) -> BinaryIO:
        """A file below it, or itself where the name is empty."""
        path = f"{self.root}/{name}" if name else self.root
        file: Any = self.fs.open_input_file(path)
        # Parsers read a few bytes at a time, and each would be a request.
        return io.BufferedReader(file, BUFFER_BYTES) if self.remote else file

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.url, self.root)


@dataclass(frozen=True)
class Plain:
    """A file or a folder, as it lies there."""

    url: str
    place: Place
    single: bool
    sizes: Mapping[str, int]
    stamp: str
    """Changes where a file changes: its path, size or time."""

    def open(self, name: str) -> BinaryIO:
        """A file of the source."""
        return self.place.open("" if self.single else name)


@dataclass(frozen=True)
class Zipped:
    """The members of a zip archive, read in place."""

    url: str
    place: Place
    sizes: Mapping[str, int]
    stamp: str

    def open(self, name: str) -> BinaryIO:
        """A member; it can be read at any place, forwards at no cost."""
        return archives.open_zip_member(_archive(self.place, self.stamp), name, self.url)


@dataclass(frozen=True)
class Unpacked:
    """The members of a tar archive, laid end to end in one file of the store."""

    url: str
    store: Store
    path: str
    starts: Mapping[str, int]
    """Where each member begins."""
    sizes: Mapping[str, int]
    stamp: str

    def open(self, name: str) -> BinaryIO:
        """A member."""
        whole = self.store.open(self.path)
        return cast(BinaryIO, archives.Slice(whole, self.starts[name], self.sizes[name]))


class Nothing:
    """The source of a format that brings its own data."""

    url = ""
    stamp = ""
    sizes: Mapping[str, int] = {}

    def open(self, name: str) -> BinaryIO:
        """There is nothing to open."""
        raise FileNotFoundError(name)


Opened = Plain | Zipped | Unpacked | Nothing


def open_files(source: str, store: Store, scratch: str) -> Opened:
    """The files of a source.

    Args:
        source: A path, file:///… or s3://bucket/….
        store: Where a tar is laid out.
        scratch: The folder of the store for that.

    Raises:
        RequestError: There is nothing at that place.
        DataError: An archive that is cut short, that escapes its folder, or that is a bomb.
        StoreError: The place cannot be reached.
    """
    place = _place(source)
    with explained(source):
        info = place.fs.get_file_info(place.root)
        if info.type == pafs.FileType.NotFound:
            raise RequestError(f"the source {source!r} does not exist; check the path")
        if info.type == pafs.FileType.Directory:
            found = _listing(place)
            start = len(place.root) + 1
            sizes = {each.path[start:]: each.size for each in found}
            return Plain(source, place, False, sizes, _stamp(found))
        stamp = _stamp([info])
        kind = archives.kind_of(place.root)
        if kind == "zip":
            with place.open("") as file:
                sizes = archives.zip_sizes(file, source)
                shown = {name: size for name, size in sizes.items() if not _hidden(name)}
                return Zipped(source, place, shown, stamp)
        if kind == "tar":
            return _unpack(source, place, info.size, store, f"{scratch}-{stamp[:16]}", stamp)
        return Plain(source, place, True, {Path(place.root).name: info.size}, stamp)


@lru_cache(maxsize=4)
def _archive(place: Place, stamp: str) -> zipfile.ZipFile:  # the stamp tells versions of it apart
    """An open zip: its directory is read once a process, not once a member."""
    del stamp
    return zipfile.ZipFile(place.open(""))


def _stamp(found: Sequence[pafs.FileInfo]) -> str:
    """A digest of the paths, sizes and times of files."""
    digest = hashlib.sha256()
    for info in found:
        digest.update(f"{info.path}\0{info.size}\0{info.mtime_ns}\n".encode())
    return digest.hexdigest()


@contextmanager
def explained(url: str) -> Generator[None]:
    """Errors of the operating system and of S3 while a source is read, in words that help."""
    try:
        yield
    except OSError as error:
        raise unreadable(url, error) from error


def unreadable(url: str, error: Exception) -> StoreError:
    """A place that cannot be read, in words that help."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    lower = reason.lower()
    if "access_denied" in lower or "403" in lower or "forbidden" in lower:
        return StoreError(f"cannot read {url}: access is denied; check the keys and their rights")
    if "no_such_bucket" in lower or "nosuchbucket" in lower or "404" in lower:
        return StoreError(
            f"cannot read {url}: there is no such bucket; check its name and the endpoint"
        )
    return StoreError(f"cannot read {url}: {reason}; check the address, the keys and the network")


def _place(source: str) -> Place:
    parts = urlsplit(source)
    if parts.scheme == "s3" and parts.netloc:
        return Place(source.rstrip("/"), f"{parts.netloc}{parts.path}".rstrip("/"))
    if parts.scheme == "file":
        return Place(source, str(Path(parts.path).absolute()))
    if parts.scheme and "://" in source:
        raise RequestError(f"the source {source!r} is neither a path nor file:///… nor s3://…")
    return Place(source, str(Path(source).expanduser().absolute()))


def _listing(place: Place) -> list[pafs.FileInfo]:
    """The files below a place, sorted by path."""
    found: Sequence[pafs.FileInfo] = place.fs.get_file_info(
        pafs.FileSelector(place.root, recursive=True)
    )
    start = len(place.root) + 1
    files = [
        info for info in found if info.type == pafs.FileType.File and not _hidden(info.path[start:])
    ]
    return sorted(files, key=lambda info: info.path)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _unpack(source: str, place: Place, size: int, store: Store, scratch: str, stamp: str) -> Unpacked:
    """Lay a tar out in the store, once: the index is written last."""
    path, index = f"{scratch}/source.bin", f"{scratch}/source.json"
    if not store.exists(index):
        with place.open("") as file, store.writing(path) as blob:
            spans = archives.lay_out(file, size, blob, source)
        store.write(index, json.dumps(spans).encode())
    found = {name: span for name, span in sorted(store.read_json(index).items()) if not _hidden(name)}
    starts = {name: start for name, (start, _) in found.items()}
    sizes = {name: length for name, (_, length) in found.items()}
    return Unpacked(source, store, path, starts, sizes, stamp)


__all__ = ["Nothing", "Opened", "explained", "open_files"]
