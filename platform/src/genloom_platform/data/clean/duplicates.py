"""Which rows are duplicates: a pure function of their digests, hashes and signatures.

Of rows that are alike, one stays: a test row before a validation row before a training row, so that
nothing held out is trained on, and then the one whose number is lowest.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genloom_platform.data.clean.text import SCHEME

Rows = NDArray[np.int64]


def exact(digests: NDArray[np.uint64], rank: NDArray[np.uint64]) -> dict[int, int]:
    """Dropped row → the row that stays, where digests are equal.

    Args:
        digests: One for each row, shape [rows].
        rank: The row with the lowest stays, shape [rows]; no two are equal.
    """
    order = np.lexsort((rank, digests))
    ordered = digests[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    first = order[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    return {int(row): int(kept) for row, kept in zip(order, first, strict=True) if row != kept}


def near_images(hashes: NDArray[np.uint64], rank: NDArray[np.uint64], bits: int) -> dict[int, int]:
    """Dropped row → the row that stays, where perceptual hashes differ in at most `bits` of 64.

    Hashes that differ in at most b bits agree in at least one of b + 1 bands: only those are compared.
    """
    same = exact(hashes, rank)
    rows = np.array([row for row in range(len(hashes)) if row not in same], np.int64)
    groups = _Groups(len(hashes))
    for row, kept in same.items():
        groups.join(row, kept)
    edges = np.linspace(0, 64, bits + 2).astype(int)
    for low, high in pairwise(edges.tolist()):
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        for bucket in _buckets(hashes[rows] & mask, rows):
            for at, row in enumerate(bucket[:-1]):
                others = bucket[at + 1 :]
                distance = np.bitwise_count(hashes[row] ^ hashes[others])
                for other in others[distance <= bits]:
                    groups.join(int(row), int(other))
    return groups.dropped(rank)


def near_texts(
    signatures: NDArray[np.uint32], rank: NDArray[np.uint64], threshold: float
) -> dict[int, int]:
    """Dropped row → the row that stays, where signatures estimate a similarity of at least `threshold`.

    Args:
        signatures: MinHash signatures, shape [rows, permutations].
        rank: The row with the lowest stays, shape [rows].
        threshold: Of the estimated Jaccard similarity.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=signatures.shape[1])
    groups = _Groups(len(signatures))
    for row, values in enumerate(signatures):
        sketch = MinHash(num_perm=len(values), seed=1, hashvalues=values, scheme=SCHEME)
        alike: Any = index.query(sketch)
        for other in alike:
            if float((signatures[other] == values).mean()) >= threshold:
                groups.join(row, other)
        index.insert(row, sketch)
    return groups.dropped(rank)


def _buckets(values: NDArray[np.uint64], rows: Rows) -> Sequence[Rows]:
    """The rows that share a value, where there are several."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    return [bucket for bucket in np.split(rows[order], cuts) if len(bucket) > 1]


class _Groups:
    """Union-find over row numbers."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def join(self, one: int, other: int) -> None:
        """The two rows are alike."""
        self._parent[self._root(one)] = self._root(other)

    def dropped(self, rank: NDArray[np.uint64]) -> dict[int, int]:
        """Every row but the best of its group, and that best one."""
        roots = [self._root(row) for row in range(len(self._parent))]
        best: dict[int, int] = {}
        for row, root in enumerate(roots):
            if root not in best or rank[row] < rank[best[root]]:
                best[root] = row
        return {row: best[root] for row, root in enumerate(roots) if best[root] != row}

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = row = self._parent[self._parent[row]]
        return row
