"""The order of data: a pure function of (dataset digest, seed, epoch).

The rows of all epochs form one endless sequence; global batch k is its places kG … (k+1)G - 1, for
any number of workers. Each epoch holds every row once; a batch may span two epochs, so none is short.

An epoch is shuffled in two levels, so that reading stays sequential where data is large: the chunks
are permuted, laid end to end, and cut into windows of `window_batches` global batches; inside a window
the rows are permuted. Windows are cut where the endless sequence crosses a multiple of the window's
size, so that whole windows hold whole batches and any step can be entered by reading its window alone.
A dataset that fits in a window is shuffled fully.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Order:
    """The endless sequence of row numbers of one split."""

    def __init__(
        self,
        chunk_rows: Sequence[int],
        digest: str,
        seed: int,
        global_batch: int,
        window_batches: int = 64,
    ) -> None:
        self.global_batch = global_batch
        self.window = window_batches * global_batch
        """Rows of a window."""
        self._sizes = np.asarray(chunk_rows, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        self.rows = int(self._starts[-1])
        """Rows of an epoch."""
        self._key = f"{digest}/{seed}"
        self._permuted_chunks = lru_cache(maxsize=4)(self._permute_chunks)
        self._window_rows = lru_cache(maxsize=4)(self._permute_window)

    def places(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows at places `start` … `stop` - 1 of the endless sequence.

        Returns:
            Row numbers within the split, and the epoch of each, both of shape [stop - start].
        """
        rows: list[NDArray[np.int64]] = []
        epochs: list[NDArray[np.int64]] = []
        for epoch, begin, end in self._windows(start, stop):
            low, high = max(start, begin), min(stop, end)
            offset = epoch * self.rows
            window = self._window_rows(epoch, begin - offset, end - offset)
            rows.append(window[low - begin : high - begin])
            epochs.append(np.full(high - low, epoch, np.int64))
        return np.concatenate(rows), np.concatenate(epochs)

    def batch(self, number: int) -> NDArray[np.int64]:
        """The row numbers of one global batch, shape [global_batch]."""
        return self.places(number * self.global_batch, (number + 1) * self.global_batch)[0]

    def _windows(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The windows that overlap a range of places, as (epoch, first place, last place + 1)."""
        place = start
        while place < stop:
            epoch = place // self.rows
            begin = max(epoch * self.rows, place // self.window * self.window)
            end = min((epoch + 1) * self.rows, (place // self.window + 1) * self.window)
            yield epoch, begin, end
            place = end

    def _permute_chunks(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The chunks in this epoch's order, and where each starts when they are laid end to end."""
        order = self._rng(epoch, "chunks").permutation(len(self._sizes))
        return order, np.concatenate([[0], np.cumsum(self._sizes[order])])

    def _permute_window(self, epoch: int, begin: int, end: int) -> NDArray[np.int64]:
        """The rows of places `begin` … `end` - 1 of an epoch, permuted."""
        order, starts = self._permuted_chunks(epoch)
        laid = np.arange(begin, end)
        slot = np.searchsorted(starts, laid, side="right") - 1
        rows = self._starts[order[slot]] + laid - starts[slot]
        return self._rng(epoch, f"rows {begin}").permutation(rows)

    def _rng(self, epoch: int, purpose: str) -> np.random.Generator:
        key = hashlib.sha256(f"{self._key}/{epoch}/{purpose}".encode()).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "big")))
