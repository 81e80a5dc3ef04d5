"""CIFAR-10: 60,000 colour pictures of 32 × 32 pixels in ten classes, in the archives as published."""

from collections.abc import Mapping
from typing import ClassVar

from genloom.formats import Files
from genloom_platform.data.formats.cifar import Cifar

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


class Cifar10(Cifar):
    """CIFAR-10, in the binary or the python version, with the splits as published."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = (
        "CIFAR-10's archive, binary or python version, or the folder that it unpacks to"
    )
    title: ClassVar[str] = "CIFAR-10"
    splits: ClassVar[Mapping[str, str]] = {
        **{f"data_batch_{number}": "train" for number in range(1, 6)},
        "test_batch": "test",
    }
    label_keys: ClassVar[Mapping[str, bytes]] = {"label": b"labels"}
    max_pickle_bytes: ClassVar[int] = 64 << 20

    def class_names(self, files: Files) -> Mapping[str, tuple[str, ...]]:
        """The ten classes, which are the same in every copy."""
        return {"label": CLASSES}
