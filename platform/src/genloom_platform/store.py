"""A store: the URL under which datasets, runs and models live, and how files get in and out.

    <store>/datasets/<name>/<version>.json        a dataset's manifest, written last
    <store>/datasets/<name>/<import>/…            its shards
    <store>/runs/<run>/…                          configuration, status, checkpoints, logs
    <store>/models/<name>/<run>/…                 released weights and their description
    <store>/aliases/<model>/<alias>/…             how an alias moved
    <store>/endpoints/<id>.json                   an endpoint that is served, while it is
    <store>/keys/<name>.json                      who may ask its endpoints: digests of keys, and limits
    <store>/jobs/<id>/…                           a request to an endpoint that is answered later
    <store>/submissions/<id>/…                    a job of the cluster, until its command has ended
    <store>/mlflow.db                             tracking and registry, where the store is a folder
    <store>/mlflow-artifacts/…                    files that MLflow shows

A file is written whole or not at all. Whatever consists of several files is committed by the one
that is written last: its manifest.
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from genloom.errors import RequestError, StoreError
from genloom_platform import objects

_LISTINGS = 10
DEFAULT_STORE = Path.home() / ".genloom" / "store"


def default_url() -> str:
    """The store of this process: the environment's GENLOOM_STORE, or a folder in the home."""
    return os.environ.get("GENLOOM_STORE") or DEFAULT_STORE.as_uri()


class Store:
    """Files under one URL. Paths are relative to it, with forward slashes.

    Bytes go in and out as they are: Arrow would otherwise pack a file whose name ends in .gz.
    """

    def __init__(self, url: str | None = None) -> None:
        url = url or default_url()
        parts = urlsplit(url)
        if parts.scheme == "s3" and parts.netloc:
            self.fs: pafs.FileSystem = objects.filesystem()
            self._root = f"{parts.netloc}{parts.path}".rstrip("/")
            self.folder: Path | None = None
            self.url = url.rstrip("/")
        elif parts.scheme in ("file", ""):
            self.folder = Path(parts.path).expanduser().absolute()
            self.fs = pafs.LocalFileSystem()
            self._root = str(self.folder)
            self.url = self.folder.as_uri()
        else:
            raise RequestError(
                f"the store {url!r} is neither file:///… nor s3://bucket/…; give one of them"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url,)

    def path(self, relative: str) -> str:
        """A path as `self.fs` takes it."""
        return f"{self._root}/{relative}"

    def read(self, relative: str) -> bytes:
        """A file's bytes.

        Raises:
            FileNotFoundError: There is none.
        """
        with (
            self.explained("read", relative),
            self.fs.open_input_stream(self.path(relative), compression=None) as file,
        ):
            return file.read()

    def open(self, relative: str) -> BinaryIO:
        """A file for reading at any place."""
        with self.explained("read", relative):
            return self.fs.open_input_file(self.path(relative))  # type: ignore[return-value]

    def write(self, relative: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self.explained("write", relative):
            target = self.path(relative)
            if self.folder is None:
                with self.fs.open_output_stream(target, compression=None) as file:
                    file.write(data)
                return
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            draft = f"{target}.{os.getpid()}.part"
            with open(draft, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)

    def create(self, relative: str, data: bytes) -> bool:
        """Write a file that must not be there yet; false, and nothing written, where it is.

        Of several that create it at once one succeeds. The data must differ from the others', as by a
        token: some S3 servers take no condition, and then it is told by who is found to have written last.
        """
        with self.explained("write", relative):
            target = self.path(relative)
            if self.folder is None:
                return not self.exists(relative) and objects.create(target, data)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            draft = f"{target}.{os.getpid()}.{secrets.token_hex(4)}.part"
            Path(draft).write_bytes(data)
            try:
                os.link(draft, target)
            except FileExistsError:
                return False
            finally:
                os.unlink(draft)
            return True

    def read_json(self, relative: str) -> Any:
        """A JSON file's content."""
        return json.loads(self.read(relative))

    @contextmanager
    def writing(self, relative: str) -> Generator["Sink"]:
        """A file to write piece by piece; where the block raises, there is none."""
        target = self.path(relative)
        draft = target if self.folder is None else f"{target}.{os.getpid()}.part"
        with self.explained("write", relative):
            if self.folder is not None:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            file = self.fs.open_output_stream(draft, compression=None)
        try:
            yield Sink(self, relative, file)
            with self.explained("write", relative):
                file.close()
                if draft != target:
                    os.replace(draft, target)
        except BaseException:
            with contextlib.suppress(OSError):
                file.close()
            if self.folder is None:
                objects.delete(target)
            else:
                Path(draft).unlink(missing_ok=True)
            raise

    def write_json(self, relative: str, value: Any) -> None:
        """Write a JSON file."""
        self.write(relative, json.dumps(value, indent=1, ensure_ascii=False).encode())

    def upload(self, local: Path, relative: str) -> tuple[int, str]:
        """Copy a file into the store; returns its size in bytes and its SHA-256."""
        digest = hashlib.sha256()
        with self.explained("write", relative), open(local, "rb") as source:
            target = self.path(relative)
            if self.folder is not None:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            draft = target if self.folder is None else f"{target}.{os.getpid()}.part"
            with self.fs.open_output_stream(draft, compression=None) as file:
                while block := source.read(1 << 22):
                    digest.update(block)
                    file.write(block)
            if draft != target:
                os.replace(draft, target)
        return local.stat().st_size, digest.hexdigest()

    def download(self, relative: str, local: Path) -> str:
        """Copy a file out of the store; returns its SHA-256."""
        digest = hashlib.sha256()
        local.parent.mkdir(parents=True, exist_ok=True)
        with (
            self.explained("read", relative),
            self.fs.open_input_stream(self.path(relative), compression=None) as source,
            open(local, "wb") as file,
        ):
            while block := source.read(1 << 22):
                digest.update(block)
                file.write(block)
        return digest.hexdigest()

    def names(self, folder: str) -> list[str]:
        """The names of the files and folders in a folder, sorted; none where it is missing."""
        found = self._listed(folder)
        return sorted(info.base_name for info in found if not info.base_name.endswith(".part"))

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file below a folder, by its path relative to it; none where it is missing."""
        above = len(self.path(folder)) + 1
        found = self._listed(folder, recursive=True)
        return {info.path[above:]: info.size for info in found if info.type == pafs.FileType.File}

    def modified_at(self, folder: str) -> float | None:
        """When a file below a folder was last written, in seconds since 1970; None where there is none."""
        found = self._listed(folder, recursive=True)
        times = [info.mtime_ns for info in found if info.type == pafs.FileType.File]
        return max(times) / 1e9 if times else None

    def _listed(self, folder: str, recursive: bool = False) -> list[pafs.FileInfo]:
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True, recursive=recursive)
        with self.explained("list", folder):
            for _ in range(_LISTINGS - 1):
                # Arrow fails where a folder comes or goes while it lists: see again what is there
                with contextlib.suppress(FileNotFoundError):
                    return self.fs.get_file_info(selector)  # type: ignore[return-value]
            return self.fs.get_file_info(selector)  # type: ignore[return-value]

    def exists(self, relative: str) -> bool:
        """Whether there is a file of that path."""
        with self.explained("read", relative):
            return self.fs.get_file_info(self.path(relative)).type == pafs.FileType.File

    def delete(self, folder: str) -> None:
        """Remove a folder and all that is in it; nothing happens where it is missing."""
        with self.explained("delete", folder):
            if self.folder is None:
                objects.delete(self.path(folder) + "/")
                return
            with contextlib.suppress(FileNotFoundError):  # someone else has just deleted it
                if self.fs.get_file_info(self.path(folder)).type == pafs.FileType.Directory:
                    self.fs.delete_dir(self.path(folder))

    def remove(self, relative: str) -> None:
        """Remove one file; nothing happens where it is missing."""
        with self.explained("delete", relative):
            if self.folder is None:
                objects.delete(self.path(relative))
            else:
                Path(self.path(relative)).unlink(missing_ok=True)

    def digest(self, relative: str) -> str:
        """The SHA-256 of a file."""
        digest = hashlib.sha256()
        with (
            self.explained("read", relative),
            self.fs.open_input_stream(self.path(relative), compression=None) as source,
        ):
            while block := source.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def check_writable(self) -> None:
        """Raise StoreError where nothing can be written, before any work is done."""
        probe = f".probe-{os.getpid()}"
        self.write(probe, b"")
        self.remove(probe)

    @contextmanager
    def explained(self, verb: str, relative: str) -> Generator[None]:
        """Errors of the operating system and of S3 as StoreError, with the file and the remedy."""
        try:
            yield
        except FileNotFoundError:
            if verb in ("read", "list"):
                raise
            raise StoreError(f"cannot {verb} {self.url}/{relative}: no such bucket or folder") from None
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise StoreError(
                f"cannot {verb} {self.url}/{relative}: {reason}; "
                f"check the store's address, rights and free space (GENLOOM_STORE, --store)"
            ) from error


class Sink(io.RawIOBase):
    """A file of a store that is being written, and the digest of what went in."""

    def __init__(self, store: Store, relative: str, file: Any) -> None:
        self._store, self._relative, self._file = store, relative, file
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        """Write some bytes."""
        block = memoryview(data).cast("B")
        with self._store.explained("write", self._relative):
            self._file.write(block)
        self._digest.update(block)
        self.size_bytes += len(block)
        return len(block)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size_bytes

    def writable(self) -> bool:
        """It is."""
        return True
