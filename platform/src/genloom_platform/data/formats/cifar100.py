"""CIFAR-100: 60,000 colour pictures of 32 × 32 pixels in 100 classes, which form 20 coarse ones."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from genloom.errors import DataError
from genloom.formats import Files
from genloom_platform.data.formats.cifar import Cifar, load_pickle
from genloom_platform.data.formats.places import where

COUNTS = {"coarse": 20, "label": 100}
NAME_KEYS = {"coarse": b"coarse_label_names", "label": b"fine_label_names"}
MAX_META_BYTES = 1 << 20


class Cifar100(Cifar):
    """CIFAR-100, in the binary or the python version, with the splits as published.

    The column `label` is the fine label.
    """

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = (
        "CIFAR-100's archive, binary or python version, or the folder that it unpacks to"
    )
    title: ClassVar[str] = "CIFAR-100"
    splits: ClassVar[Mapping[str, str]] = {"train": "train", "test": "test"}
    label_keys: ClassVar[Mapping[str, bytes]] = {"coarse": b"coarse_labels", "label": b"fine_labels"}
    max_pickle_bytes: ClassVar[int] = 256 << 20

    def class_names(self, files: Files) -> Mapping[str, tuple[str, ...]]:
        """The names that stand beside the batches."""
        beside = next(iter(self._batches(files).values()))
        folder = beside[: beside.rfind("/") + 1]
        found: dict[str, tuple[str, ...]] = {}
        for column, key in NAME_KEYS.items():
            source = folder + (f"{key.decode()}.txt" if beside.endswith(".bin") else "meta")
            names = _names(files, source, key)
            if len(names) != COUNTS[column]:
                raise DataError(
                    f"{where(files, source)} names {len(names)} classes where CIFAR-100 has "
                    f"{COUNTS[column]}; give the archive as published"
                )
            found[column] = names
        return found


def _names(files: Files, source: str, key: bytes) -> tuple[str, ...]:
    """The classes that a file of names, or the pickle `meta`, has in order."""
    place = where(files, source)
    if source not in files.sizes:
        raise DataError(f"{place}, which names the classes, is missing; give CIFAR-100 as published")
    if files.sizes[source] > MAX_META_BYTES:
        raise DataError(
            f"{place} has {files.sizes[source]:,} bytes; it is not CIFAR-100's, whose have 3 kB"
        )
    with files.open(source) as file:
        content = file.read()
    lines: Sequence[Any] = content.split()
    if not source.endswith(".txt"):
        meta: Any = load_pickle(content, place, "CIFAR-100")
        lines = meta.get(key, ()) if isinstance(meta, dict) else ()
    return tuple(
        line.decode(errors="replace") if isinstance(line, bytes) else str(line) for line in lines
    )
