"""MNIST, and all that is published in its layout: Fashion-MNIST, KMNIST.

Source: Y. LeCun, C. Cortes and C. Burges, The MNIST Database of Handwritten Digits, 1998. An IDX file is
a magic number (two zero bytes, the type, the number of axes), the length of each axis as a big-endian
32-bit number, and the values.
"""

import gzip
import io
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from pydantic import Field

from genloom import ClassColumn, Image, ImageColumn
from genloom.data import Column
from genloom.errors import DataError
from genloom.formats import Files, Format, SourceRow, Unit
from genloom.samples import MAX_PIXELS
from genloom_platform.data.formats.places import where

NAME = re.compile(r"(train|t10k)-(images[-.]idx3|labels[-.]idx1)-ubyte(\.gz)?")
SPLITS = {"train": "train", "t10k": "test"}
UNSIGNED_BYTE = 0x08
BUFFER_BYTES = 1 << 20


class Mnist(Format):
    """Grey pictures of one size and their classes, in IDX files with the splits as published."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "MNIST's IDX files (train-images-idx3-ubyte …), packed by gzip or not"

    names: tuple[str, ...] = Field(default=tuple(str(digit) for digit in range(10)), min_length=1)
    """The classes, by label."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The picture and its class."""
        sizes: dict[str, tuple[int, int]] = {}
        for split, (images, labels) in _pairs(files).items():
            with _Idx(files, images, 3) as pictures, _Idx(files, labels, 1) as classes:
                sizes[split] = _size(pictures, classes)
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{split} {height} × {width}" for split, (height, width) in sizes.items())
            raise DataError(f"{files.url} holds pictures of several sizes ({shown}); give one data set")
        height, width = next(iter(sizes.values()))
        return {
            "image": ImageColumn(height=height, width=width, channels=1),
            "label": ClassColumn(names=self.names),
        }

    def units(self, files: Files) -> Sequence[Unit]:
        """One for each split: a gzip file can only be read from its start."""
        return [
            Unit(pair, size_bytes=sum(files.sizes[n] for n in pair)) for pair in _pairs(files).values()
        ]

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow]:
        """Pictures with their labels; a key is the images' file and the number in it, from 0."""
        name = unit.files[0]
        split = SPLITS[name.rpartition("/")[2].partition("-")[0]]
        with _Idx(files, name, 3) as pictures, _Idx(files, unit.files[1], 1) as classes:
            height, width = _size(pictures, classes)
            for index in range(pictures.count):
                pixels = np.frombuffer(pictures.item(index, height * width), np.uint8)
                label = classes.item(index, 1)[0]
                if label >= len(self.names):
                    raise DataError(
                        f"{classes.place} holds the label {label} at {index:,}, but names has "
                        f"{len(self.names)} classes, 0 to {len(self.names) - 1}; name all of them"
                    )
                image = Image(pixels.reshape(height, width, 1))
                yield SourceRow(f"{name}:{index}", {"image": image, "label": label}, split)
            pictures.check_end()
            classes.check_end()


class _Idx:
    """An IDX file of bytes, read item by item; what its header claims is believed only as far as it is there."""

    def __init__(self, files: Files, name: str, axes: int) -> None:
        self.place = where(files, name)
        self._files, self._name, self._axes = files, name, axes
        self._open = ExitStack()

    def __enter__(self) -> "_Idx":
        try:
            # Small reads of a file in S3 would each be a request.
            file = io.BufferedReader(
                cast(Any, self._open.enter_context(self._files.open(self._name))), BUFFER_BYTES
            )
            packed = self._name.endswith(".gz")
            self._file = cast(BinaryIO, gzip.GzipFile(fileobj=file) if packed else file)
            self.count, *self.shape = self._header()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def item(self, index: int, size: int) -> bytes:
        """The bytes of the next item."""
        content = self._read(size)
        if len(content) < size:
            raise DataError(
                f"{self.place} is cut short: it ends at item {index:,} of the {self.count:,} that its header "
                f"claims; download it again"
            )
        return content

    def check_end(self) -> None:
        """Raise DataError where the file goes on."""
        if self._read(1):
            raise DataError(
                f"{self.place} goes on after the {self.count:,} items that its header claims; download it "
                f"again"
            )

    def _header(self) -> list[int]:
        magic = bytes([0, 0, UNSIGNED_BYTE, self._axes])
        content = self._read(4 + 4 * self._axes)
        if content[:4] != magic:
            raise DataError(
                f"{self.place} begins with {content[:4].hex() or 'nothing'}, not with {magic.hex()}, the mark "
                f"of an IDX file of bytes with {self._axes} axes; download it again"
            )
        if len(content) < 4 + 4 * self._axes:
            raise DataError(f"{self.place} is cut short in its header; download it again")
        return [int.from_bytes(content[at : at + 4], "big") for at in range(4, len(content), 4)]

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except EOFError as error:
            raise DataError(f"{self.place} is cut short; download it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{self.place} cannot be unpacked: {error}; download it again") from error


def _size(pictures: _Idx, classes: _Idx) -> tuple[int, int]:
    """Height and width of the pictures."""
    if pictures.count != classes.count:
        raise DataError(
            f"{pictures.place} claims {pictures.count:,} pictures and {classes.place} {classes.count:,} "
            f"labels; they do not belong together"
        )
    height, width = pictures.shape
    if not 0 < height * width <= MAX_PIXELS:
        raise DataError(
            f"{pictures.place} claims pictures of {height} × {width} pixels; between 1 and {MAX_PIXELS:,} "
            f"can be read, download it again"
        )
    return height, width


def _pairs(files: Files) -> dict[str, tuple[str, str]]:
    """Split → its files of images and of labels."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in files.sizes:
        if match := NAME.fullmatch(name.rpartition("/")[2]):
            found[f"{SPLITS[match[1]]} {match[2][:6]}"].append(name)
    folders = sorted({name.rpartition("/")[0] for names in found.values() for name in names})
    if not found:
        raise DataError(
            f"{files.url} holds no train-images-idx3-ubyte or the like; give MNIST as published"
        )
    if len(folders) > 1:
        raise DataError(
            f"{files.url} holds IDX files in {', '.join(folders)}; give one of these folders"
        )
    pairs: dict[str, tuple[str, str]] = {}
    for split in SPLITS.values():
        both = [found.get(f"{split} {kind}", []) for kind in ("images", "labels")]
        if not any(both):
            continue
        if not all(both):
            present, missing = (both[0], "labels") if both[0] else (both[1], "images")
            raise DataError(
                f"{where(files, present[0])} stands alone; its {missing} are missing beside it"
            )
        # Where a file lies beside its packed form, the unpacked one is read: its name sorts first.
        pairs[split] = (min(both[0]), min(both[1]))
    return pairs
