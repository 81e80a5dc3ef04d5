"""CIFAR-10: 60,000 colour pictures of 32 × 32 pixels in ten classes, in the archives as published.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. Both layouts are
read: the binary version, whose records are one label byte and 3,072 pixel bytes (red, green, blue),
and the python version, which is read without running the code that a pickle may hold.
"""

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from genloom import ClassColumn, Image, ImageColumn
from genloom.errors import DataError
from genloom_platform.data.formats import Source

NEEDS_SOURCE = True
OPTIONS: dict[str, Any] = {}
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECORD_BYTES = 1 + 3072
MAX_MEMBER_BYTES = 64 << 20
TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]


def open_source(path: Path, options: dict[str, Any]) -> Source:
    """An archive (.tar.gz) or the folder that it unpacks to."""
    columns = {"image": ImageColumn(channels=3), "label": ClassColumn(names=tuple(CLASSES))}

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        found = 0
        for name, content in _members(path):
            split = "train" if name.removesuffix(".bin") in TRAIN_FILES else "test"
            read = _binary if name.endswith(".bin") else _python
            for pixels, label in read(f"{path}/{name}", content):
                found += 1
                yield split, {"image": Image(pixels), "label": label}
        if not found:
            raise DataError(
                f"{path} holds no data_batch or test_batch; give CIFAR-10's archive as published"
            )

    return Source(columns, rows, str(path), options)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The batch files in order, from a folder or an archive."""
    wanted = {name + end for name in [*TRAIN_FILES, "test_batch"] for end in ("", ".bin")}
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.name in wanted and file.is_file():
                yield file.name, file.read_bytes()
        return
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isfile() or name not in wanted:
                    continue
                if member.size > MAX_MEMBER_BYTES:
                    raise DataError(
                        f"{path}/{name} claims {member.size:,} bytes; CIFAR-10's files have 31 MB"
                    )
                content = archive.extractfile(member)
                if content:
                    yield name, content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole tar archive: {error}; download it again") from error


def _binary(where: str, content: bytes) -> Iterator[tuple[Any, int]]:
    if not content or len(content) % RECORD_BYTES:
        raise DataError(
            f"{where} has {len(content):,} bytes, not a multiple of {RECORD_BYTES}; it is cut short, "
            f"download it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    yield from _pictures(where, records[:, 1:], records[:, 0])


def _python(where: str, content: bytes) -> Iterator[tuple[Any, int]]:
    try:
        batch = _DataOnly(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], batch[b"labels"]
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{where} is no CIFAR-10 batch ({error}); download the archive again"
        ) from error
    yield from _pictures(where, np.asarray(pixels), np.asarray(labels))


def _pictures(where: str, pixels: Any, labels: Any) -> Iterator[tuple[Any, int]]:
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise DataError(
            f"{where} holds pixels of shape {list(pixels.shape)}, not [rows, 3072] of uint8"
        )
    for picture, label in zip(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels, strict=True):
        if not 0 <= label < len(CLASSES):
            raise DataError(f"{where} holds the label {label}; CIFAR-10 has 0 to {len(CLASSES) - 1}")
        yield picture, int(label)


class _DataOnly(pickle.Unpickler):
    """Reads the arrays of a published batch, and refuses whatever else a pickle could call."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Only what rebuilds a numpy array."""
        if (module, name) not in self.ALLOWED:
            raise DataError(f"the batch asks to run {module}.{name}; it is not CIFAR-10 as published")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
