"""What CIFAR-10 and CIFAR-100 share: pictures of 32 × 32 pixels, as records or as pickled batches.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. In the binary
version a record is the label bytes and 3,072 pixel bytes (red, green, blue). The python version is read
without running the code that a pickle may hold.
"""

import io
import pickle
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

import numpy as np

from genloom import ClassColumn, Image, ImageColumn
from genloom.data import Column
from genloom.errors import DataError
from genloom.formats import Files, Format, SourceRow, Unit
from genloom_platform.data.formats.places import where

PIXEL_BYTES = 3072
UNIT_RECORDS = 10_000
BLOCK_RECORDS = 1000


class Cifar(Format):
    """The base of both: a picture and its labels in each row.

    A row's key is its batch and its number there, from 0, as in "data_batch_1:17", whatever the version.
    """

    title: ClassVar[str]
    splits: ClassVar[Mapping[str, str]]
    """The published batches, without .bin → the split that each belongs to."""
    label_keys: ClassVar[Mapping[str, bytes]]
    """Column → its key in a pickled batch, in the order of a record's label bytes."""
    max_pickle_bytes: ClassVar[int]
    """A pickle is read whole, so a larger one is refused."""

    @abstractmethod
    def class_names(self, files: Files) -> Mapping[str, tuple[str, ...]]:
        """Column → its classes."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The picture and its labels."""
        self._batches(files)
        labels = {name: ClassColumn(names=names) for name, names in self.class_names(files).items()}
        return {"image": ImageColumn(height=32, width=32, channels=3), **labels}

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of records, or whole pickles."""
        units: list[Unit] = []
        for name in self._batches(files).values():
            size_bytes = files.sizes[name]
            if not name.endswith(".bin"):
                units.append(Unit((name,), size_bytes=size_bytes))
                continue
            count = size_bytes // self._record_bytes
            for start in range(0, count, UNIT_RECORDS):
                stop = min(start + UNIT_RECORDS, count)
                units.append(Unit((name,), start, stop, (stop - start) * self._record_bytes))
        return units

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow]:
        """The pictures of a batch."""
        counts = {column: len(names) for column, names in self.class_names(files).items()}
        (name,) = unit.files
        batch = name.rpartition("/")[2].removesuffix(".bin")
        place = where(files, name)
        index = unit.start
        with files.open(name) as file:
            blocks = self._records(file, unit, place) if unit.stop else self._pickle(file, place)
            for pixels, *labels in (row for block in blocks for row in zip(*block, strict=True)):
                self._check(labels, counts, place)
                values = dict(zip(self.label_keys, map(int, labels), strict=True))
                image = Image(pixels.reshape(3, 32, 32).transpose(1, 2, 0))
                yield SourceRow(f"{batch}:{index}", {"image": image, **values}, self.splits[batch])
                index += 1

    @property
    def _record_bytes(self) -> int:
        return len(self.label_keys) + PIXEL_BYTES

    def _batches(self, files: Files) -> dict[str, str]:
        """Batch → its file, wherever it lies in the source."""
        found: dict[str, str] = {}
        for name, size_bytes in files.sizes.items():
            batch = name.rpartition("/")[2].removesuffix(".bin")
            if batch not in self.splits:
                continue
            if batch in found:
                raise DataError(
                    f"{files.url} holds {batch} twice, as {found[batch]} and {name}; give one version "
                    f"of {self.title}"
                )
            found[batch] = name
            self._check_size(where(files, name), size_bytes)
        if not found:
            first = next(iter(self.splits))
            raise DataError(
                f"{files.url} holds no {first} or {first}.bin; give {self.title}'s archive as published"
            )
        return found

    def _check_size(self, place: str, size_bytes: int) -> None:
        if place.endswith(".bin"):
            if not size_bytes or size_bytes % self._record_bytes:
                raise DataError(
                    f"{place} has {size_bytes:,} bytes, not a multiple of {self._record_bytes}; it is cut "
                    f"short, download it again"
                )
        elif size_bytes > self.max_pickle_bytes:
            raise DataError(
                f"{place} has {size_bytes:,} bytes, {self.title}'s batches are below "
                f"{self.max_pickle_bytes:,}; give the archive as published"
            )

    def _records(self, file: BinaryIO, unit: Unit, place: str) -> Iterator[list[Any]]:
        """Pixels, shape [rows, 3072], and each kind of label, shape [rows], block by block."""
        size, labels = self._record_bytes, len(self.label_keys)
        file.seek(unit.start * size)
        for start in range(unit.start, unit.stop or 0, BLOCK_RECORDS):
            count = min(BLOCK_RECORDS, (unit.stop or 0) - start)
            content = file.read(count * size)
            if len(content) != count * size:
                raise DataError(f"{place} ends before record {start + count:,}; download it again")
            records = np.frombuffer(content, np.uint8).reshape(count, size)
            yield [records[:, labels:], *records[:, :labels].T]

    def _pickle(self, file: BinaryIO, place: str) -> Iterator[list[Any]]:
        """As `_records`, for a whole pickled batch."""
        batch = load_pickle(file.read(), place, self.title)
        try:
            pixels = batch[b"data"]
            labels = [batch[key] for key in self.label_keys.values()]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{place} is no {self.title} batch (it has no {error}); download the archive again"
            ) from error
        shape = list(getattr(pixels, "shape", ()))
        if getattr(pixels, "dtype", None) != np.uint8 or shape[1:] != [PIXEL_BYTES]:
            raise DataError(f"{place} holds pixels of shape {shape}, not [rows, 3072] of uint8")
        if any(not isinstance(column, list) or len(column) != len(pixels) for column in labels):
            raise DataError(f"{place} holds {len(pixels):,} pictures, but no list of as many labels")
        yield [pixels, *labels]

    def _check(self, labels: Sequence[Any], counts: Mapping[str, int], place: str) -> None:
        for column, label in zip(self.label_keys, labels, strict=True):
            if not isinstance(label, int | np.integer) or not 0 <= label < counts[column]:
                raise DataError(
                    f"{place} holds the {column} {label!r}; {self.title} has 0 to {counts[column] - 1}"
                )


def load_pickle(content: bytes, place: str, title: str) -> Any:
    """What a published pickle holds.

    Raises:
        DataError: It is damaged, or would run code.
    """
    try:
        return _DataOnly(io.BytesIO(content), title).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{place} is no {title} batch ({error}); download the archive again") from error


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

    def __init__(self, file: BinaryIO, title: str) -> None:
        super().__init__(file, encoding="bytes")
        self._title = title

    def find_class(self, module: str, name: str) -> Any:
        """Only what rebuilds a numpy array."""
        if (module, name) not in self.ALLOWED:
            raise DataError(
                f"the batch asks to run {module}.{name}; it is not {self._title} as published"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
