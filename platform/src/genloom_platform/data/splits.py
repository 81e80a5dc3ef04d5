"""Splits: which rows are held out, decided for each row alone, so that it is the same in every import."""

import hashlib
from dataclasses import dataclass, replace

from genloom.errors import RequestError
from genloom_platform.data.item import Dropped, Item, Passing
from genloom_platform.data.recipe import Split

AUGMENTED = "#augmented-"
"""Stands in the key of an augmented copy, after the key of its original."""


def number_of(text: str, purpose: str) -> int:
    """64 bits that are a function of a text."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}/{text}".encode(), digest_size=8).digest())


@dataclass(frozen=True)
class Splitting:
    """The step that gives each row its split."""

    split: Split | None
    """Shares; None for the published splits, and a tenth for the test where nothing is published."""

    def __call__(self, rows: Passing) -> Passing:
        """The rows with their splits; copies of rows that are now held out are dropped."""
        for row in rows:
            if not isinstance(row, Item):
                yield row
                continue
            split = self._of(row)
            if AUGMENTED in row.key and split != "train":
                yield Dropped(row, "copy of a held-out row", f"its original is in {split}")
            else:
                yield replace(row, split=split)

    def _of(self, item: Item) -> str:
        if self.split is None and item.split:
            return item.split
        split = self.split or Split.model_validate({})
        if item.values.get("generated") == 1:
            return "train"
        key = item.key.partition(AUGMENTED)[0]
        if split.by:
            if split.by not in item.values:
                known = ", ".join(item.values)
                raise RequestError(
                    f"split.by = {split.by!r}: there is no such column; give one of {known}"
                )
            key = str(item.values[split.by])
        place = number_of(key, "split") / 2**64
        if place < split.test:
            return "test"
        return "validation" if place < split.test + split.validation else "train"
