"""Augmentation at import: seeded copies of the training rows, beside the originals."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from genloom.data import Column
from genloom.errors import RequestError
from genloom_platform.data.item import Item, Passing, Step
from genloom_platform.data.recipe import Augmentation
from genloom_platform.data.splits import AUGMENTED, number_of


@dataclass(frozen=True)
class Copies:
    """Each training row, and then its augmented copies."""

    settings: Augmentation
    columns: Mapping[str, Column]
    seed: int
    parent: str
    """The dataset that is augmented: its copies' copies must have keys of their own."""

    def __call__(self, rows: Passing) -> Passing:
        """The rows, with copies among them; a copy's key names its original."""
        for row in rows:
            yield row
            if isinstance(row, Item) and row.split == "train":
                for number in range(1, self.settings.copies + 1):
                    yield self._copy(row, number)

    def _copy(self, item: Item, number: int) -> Item:
        import numpy as np

        key = f"{item.key}{AUGMENTED}{self.parent}{number}"
        rng = np.random.default_rng(number_of(key, f"augment {self.seed}"))
        changed = {}
        for name, column in self.columns.items():
            augment = {
                "image": self.settings.images,
                "audio": self.settings.audio,
            }.get(column.kind)
            if augment is not None:
                changed[name] = augment(item.values[name], rng)
            elif column.kind == "text":
                changed[name] = self.settings.text(item.values[name], rng)
        return replace(item.having(**changed), key=key, origin=item.origin or item.key)


def augment_steps(
    settings: Augmentation | None, columns: Mapping[str, Column], seed: int, parent: str = ""
) -> list[Step]:
    """The step that the settings ask for.

    Raises:
        RequestError: They change nothing that the dataset has.
    """
    if settings is None:
        return []
    kinds = {"images": "image", "audio": "audio", "text": "text"}
    asked = [name for name in kinds if getattr(settings, name).model_fields_set]
    has = {column.kind for column in columns.values()}
    lacking = [name for name in asked if kinds[name] not in has]
    if lacking or not asked:
        what = f"there is no column for augment.{lacking[0]}" if lacking else "nothing would be changed"
        able = ", ".join(f"augment.{name}" for name, kind in kinds.items() if kind in has)
        raise RequestError(f"the copies would be like their originals: {what}; give {able or 'none'}")
    return [Copies(settings, columns, seed, f"{parent}-" if parent else "")]
