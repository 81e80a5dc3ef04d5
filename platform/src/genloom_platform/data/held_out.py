"""Held-out rows: a share of a split that training never sees, the same rows for every run on a dataset.

Of every `every` rows in a row one is held out, drawn by the dataset's digest; so which rows they are, and
how those that are kept are counted, takes no memory.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genloom_platform.data.order import Order

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, whose multiples spread evenly (Knuth, TAOCP 3, 6.4: Fibonacci hashing)."""


@dataclass(frozen=True)
class HeldOut:
    """Which rows of a split are held out."""

    every: int
    """One row of so many; at least 2."""
    digest: str
    """The dataset's."""

    def rows(self, count: int) -> NDArray[np.int64]:
        """The rows that are held out of the first `count`, in order."""
        blocks = np.arange(-(-count // self.every))
        rows = blocks * self.every + self._place(blocks)
        return rows[rows < count]

    def kept_before(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many rows are kept of those before each of some rows."""
        blocks, within = np.divmod(rows, self.every)
        return rows - blocks - (self._place(blocks) < within)

    def kept(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows that are kept, by their numbers among the kept."""
        blocks, within = np.divmod(numbers, self.every - 1)
        return blocks * self.every + within + (within >= self._place(blocks))

    def _place(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in its block the row stands that is held out."""
        salt = np.uint64(
            int(hashlib.sha256(f"held out of {self.digest}".encode()).hexdigest()[:16], 16)
        )
        mixed = (blocks.astype(np.uint64) ^ salt) * _MULTIPLIER
        return ((mixed >> np.uint64(32)) % np.uint64(self.every)).astype(np.int64)


@dataclass(frozen=True)
class KeptOrder:
    """The order of a split's kept rows, told in numbers of the split's rows."""

    order: Order
    held_out: HeldOut
    rows: int
    """Rows of the split, the held-out ones included."""

    @property
    def window(self) -> int:
        """Places that are read together."""
        return self.order.window

    @property
    def global_batch(self) -> int:
        """Rows of a global batch."""
        return self.order.global_batch

    def places(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `Order.places`."""
        numbers, epochs = self.order.places(start, stop)
        return self.held_out.kept(numbers), epochs

    def batch(self, number: int) -> NDArray[np.int64]:
        """The row numbers of one global batch, shape [global_batch]."""
        return self.held_out.kept(self.order.batch(number))
