"""Mixtures: several datasets as one, by weights: `digits*0.7 + more-digits*0.3`.

The order of a mixture is a function too: every 10,000 places hold each dataset's exact share, permuted;
each dataset follows its own endless order. So a mixture can be entered anywhere, like a dataset.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genloom.data import (
    AudioColumn,
    ClassColumn,
    Column,
    Facts,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    TextColumn,
)
from genloom.errors import RequestError, WrongDataset
from genloom_platform.data.held_out import KeptOrder
from genloom_platform.data.manifest import Manifest, Provenance, Shard, folder
from genloom_platform.data.order import Order

PERIOD = 10_000
"""Places over which the shares are exact."""


class Mixture(Manifest):
    """Datasets that are read as one."""

    members: tuple[Manifest, ...]
    weights: tuple[float, ...]
    """Shares, which sum to 1."""

    @property
    def full_name(self) -> str:
        """`a@version*0.7 + b@version*0.3`."""
        return " + ".join(
            f"{member.full_name}*{weight:.6g}"
            for member, weight in zip(self.members, self.weights, strict=True)
        )

    def path_of(self, shard: Shard) -> str:
        """Where a shard lies in the store: a mixture's shards are named from the store's root."""
        return shard.path

    def shards_of(self, split: str) -> list[Shard]:
        """The shards of a split, one dataset after the other."""
        if split == "train":
            for member in self.members:
                member.shards_of(split)  # each must have rows to train on
        return super().shards_of(split)


def is_mixture(reference: str) -> bool:
    """Whether a reference names several datasets or a weight."""
    return "*" in reference or "+" in reference


def parse(reference: str) -> list[tuple[str, float]]:
    """The datasets and shares of `a*2 + b*1`; a dataset without a weight has 1.

    Raises:
        RequestError: It is no such list.
    """
    parts: list[tuple[str, float]] = []
    for term in reference.split("+"):
        match = re.fullmatch(r"\s*([a-z0-9][a-z0-9._@-]*)\s*(?:\*\s*([0-9.eE-]+))?\s*", term)
        try:
            weight = float(match[2] or 1) if match else 0.0
        except ValueError:
            weight = 0.0
        if not match or not 0 < weight < float("inf"):
            fault = f"{term.strip()!r} in {reference!r} is no dataset with a weight"
            raise RequestError(f"{fault}; write a*0.7 + b*0.3")
        parts.append((match[1], weight))
    whole = sum(weight for _, weight in parts)
    return [(name, weight / whole) for name, weight in parts]


def mixed(members: Sequence[Manifest], weights: Sequence[float]) -> Mixture:
    """Datasets as one.

    Raises:
        WrongDataset: Their columns do not go together.
        RequestError: A weight is too small, or a dataset is named twice.
    """
    if len({member.digest for member in members}) < len(members):
        raise RequestError("a mixture names a dataset twice; add its weights up")
    if min(weights) * PERIOD < 1:
        raise RequestError(
            f"a share of {min(weights):.2g} is too small; the smallest is {1 / PERIOD:g}"
        )
    columns = _columns(members)
    content = [
        [member.digest, round(weight, 9)] for member, weight in zip(members, weights, strict=True)
    ]
    return Mixture(
        name="mixture",
        digest=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        columns=columns,
        shards=tuple(
            shard.model_copy(update={"path": f"{folder(member.name)}/{shard.path}"})
            for member in members
            for shard in member.shards
        ),
        provenance=Provenance(
            format="mixture",
            source=", ".join(member.full_name for member in members),
            importer=members[0].provenance.importer,
            parents=tuple(member.full_name for member in members),
        ),
        created_at=max(member.created_at for member in members),
        members=tuple(members),
        weights=tuple(weights),
    )


class MixedOrder:
    """The endless sequence of row numbers of a mixture; rows are counted one dataset after the other."""

    def __init__(
        self, orders: Sequence[Order | KeptOrder], weights: Sequence[float], seed: int
    ) -> None:
        self._orders = orders
        self.global_batch = orders[0].global_batch
        self.window = max(order.window for order in orders)
        """Places that are read together."""
        self._offsets = np.cumsum([0, *(order.rows for order in orders)])
        self.rows = int(self._offsets[-1])
        self._shares = _counts(weights)
        self._seed = seed

    def places(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Order.places`; the epoch is each dataset's own."""
        periods = range(start // PERIOD, (stop - 1) // PERIOD + 1)
        rows = np.empty(stop - start, np.int64)
        epochs = np.empty(stop - start, np.int64)
        for period in periods:
            labels = self._labels(period)
            low, high = max(start - period * PERIOD, 0), min(stop - period * PERIOD, PERIOD)
            at = period * PERIOD + low - start
            for member, order in enumerate(self._orders):
                first = period * self._shares[member] + int((labels[:low] == member).sum())
                where = np.flatnonzero(labels[low:high] == member) + at
                if len(where):
                    found, epoch = order.places(first, first + len(where))
                    rows[where] = found + self._offsets[member]
                    epochs[where] = epoch
        return rows, epochs

    def batch(self, number: int) -> NDArray[np.int64]:
        """The row numbers of one global batch, shape [global_batch]."""
        return self.places(number * self.global_batch, (number + 1) * self.global_batch)[0]

    def _labels(self, period: int) -> NDArray[np.int64]:
        """Which dataset stands at each place of a period."""
        key = hashlib.sha256(f"mixture/{self._seed}/{period}".encode()).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "big")))
        return rng.permutation(np.repeat(np.arange(len(self._orders)), self._shares))


def _counts(weights: Sequence[float]) -> list[int]:
    """Whole shares of a period, by the largest remainder."""
    exact = np.array(weights) / sum(weights) * PERIOD
    counts = np.floor(exact).astype(int)
    for member in np.argsort(counts - exact, kind="stable")[: PERIOD - counts.sum()]:
        counts[member] += 1
    return counts.tolist()


def _columns(members: Sequence[Manifest]) -> dict[str, Column]:
    shared = [name for name in members[0].columns if all(name in member.columns for member in members)]
    merged: dict[str, Column] = {}
    for name in shared:
        column = members[0].columns[name]
        for member in members[1:]:
            joined = _joined(column, member.columns[name])
            if joined is None:
                raise WrongDataset(
                    f"{members[0].full_name} and {member.full_name} cannot be mixed: the column {name!r} is "
                    f"{_short(column)} in one and {_short(member.columns[name])} in the other; import one of "
                    f"them again so that they agree"
                )
            column = joined
        merged[name] = column
    if not merged:
        raise WrongDataset(
            f"{', '.join(m.full_name for m in members)} share no column; they cannot be mixed"
        )
    return merged


def _joined(one: Any, other: Any) -> Any:
    """A column that describes the rows of both, or None."""
    if type(one) is not type(other):
        return None
    match one:
        case ImageColumn():
            height = one.height if one.height == other.height else None
            width = one.width if one.width == other.width else None
            same = one.channels == other.channels
            return ImageColumn(height=height, width=width, channels=one.channels) if same else None
        case TextColumn():
            vocabulary = tuple(sorted({*one.vocabulary, *other.vocabulary}))
            return TextColumn(vocabulary=vocabulary, max_chars=max(one.max_chars, other.max_chars))
        case AudioColumn() | NotesColumn():
            longest = max(one.max_s, other.max_s)
            update = {"max_s": longest}
            same_rest = one.model_copy(update=update) == other.model_copy(update=update)
            return one.model_copy(update=update) if same_rest else None
        case NumberColumn() if one.integer == other.integer:
            low, high = min(one.minimum, other.minimum), max(one.maximum, other.maximum)
            return NumberColumn(minimum=low, maximum=high, integer=one.integer)
        case _:
            return one if one == other else None


def _short(column: Facts) -> str:
    text = str(column)
    kind = getattr(column, "kind", "")
    if isinstance(column, ClassColumn):
        return f"a class of {', '.join(column.names[:6])}{' …' if len(column.names) > 6 else ''}"
    return f"{kind} ({text if len(text) < 80 else text[:80] + ' …'})"


__all__ = ["MixedOrder", "Mixture", "is_mixture", "mixed", "parse"]
