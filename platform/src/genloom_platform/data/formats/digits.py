"""Scikit-learn's digits: 1,797 real handwritten digits, 8 × 8 pixels of 17 grey levels.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from genloom import ClassColumn, Image, ImageColumn
from genloom_platform.data.formats import Source

NEEDS_SOURCE = False
OPTIONS: dict[str, Any] = {"test": 0.2}


def open_source(options: dict[str, Any]) -> Source:
    """The digits; `test` is the share of rows that is held out."""
    import sklearn
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        from genloom_platform.data.imports import held_out

        for index, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
            split = "test" if held_out(f"digits/{index}", options["test"]) else "train"
            yield split, {"image": Image(image), "label": int(label)}

    columns = {
        "image": ImageColumn(channels=1),
        "label": ClassColumn(names=tuple(str(digit) for digit in range(10))),
    }
    return Source(
        columns, rows, f"sklearn.datasets.load_digits, scikit-learn {sklearn.__version__}", options
    )
