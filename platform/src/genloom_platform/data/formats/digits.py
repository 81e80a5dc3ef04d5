"""Scikit-learn's digits: 1,797 real handwritten digits, 8 × 8 pixels of 17 grey levels.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from genloom import ClassColumn, Image, ImageColumn
from genloom.data import Column
from genloom.formats import Files, Format, SourceRow, Unit


class Digits(Format):
    """Handwritten digits that come with scikit-learn."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = "the digits that come with scikit-learn; no source is given"
    needs_source: ClassVar[bool] = False

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The picture and which digit it is."""
        return {
            "image": ImageColumn(height=8, width=8, channels=1),
            "label": ClassColumn(names=tuple(str(digit) for digit in range(10))),
        }

    def units(self, files: Files) -> Sequence[Unit]:
        """One: they are few."""
        return [Unit(())]

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow]:
        """All digits, in scikit-learn's order."""
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        for index, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
            yield SourceRow(f"digits/{index}", {"image": Image(image), "label": int(label)})
