"""The layout: which rows stay and which shard holds them, once all parts are there. `shards` comes next.

Everything is decided from a few numbers a row: about 50 bytes each, in this process. The shards' rows are
ranges of draws, which are random, so a shard is a random sample of its split whatever order the source
had: a batch of neighbouring rows is as mixed as one of a full shuffle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from genloom.data import Column, IdColumn
from genloom.errors import DataError
from genloom_platform.data.clean import duplicates
from genloom_platform.data.clean.rules import Cleaning
from genloom_platform.data.encoding import KEY
from genloom_platform.store import Store

SHARD_BYTES = 64 << 20
SHARD_ROWS = 4_000_000
CHUNK_BYTES = 1 << 20
MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 32, 8192


@dataclass(frozen=True)
class Plan:
    """One shard: the rows of a split whose draws lie in a range."""

    split: str
    number: int
    low: int
    high: int
    """The last draw, itself included."""
    chunk_rows: int
    dropped: Mapping[str, tuple[str, str]]
    """Key → rule and detail, of the rows in the range that are left out."""

    @property
    def name(self) -> str:
        """The shard's file name without its suffix."""
        return f"{self.split}-{self.number:05d}"


def parts_dataset(store: Store, folder: str, parts: Sequence[str]) -> ds.Dataset:
    """The parts of an import as one table on disk."""
    paths = [store.path(f"{folder}/{part}") for part in parts]
    return ds.dataset(paths, filesystem=store.fs, format="parquet")


def plan(whole: ds.Dataset, rules: Cleaning, columns: Mapping[str, Column]) -> list[Plan]:
    """The shards of an import."""
    near = [name for name in whole.schema.names if name.startswith("_near ")]
    index = whole.to_table(columns=["_split", "_draw", "_origin", "_bytes", "_digest", *near])
    splits = np.asarray(index.column("_split").to_pylist(), object)
    draws = index.column("_draw").to_numpy()
    sizes = index.column("_bytes").to_numpy()
    _check_keys(whole, draws)
    dropped = _duplicates(index, splits, draws, rules, columns)
    _drop_copies(index.column("_origin").to_numpy(), draws, dropped)
    keys = _keys(whole, dropped)
    plans: list[Plan] = []
    for split in sorted(set(splits.tolist())):
        rows = np.flatnonzero(splits == split)
        rows = rows[np.argsort(draws[rows], kind="stable")]
        kept = np.array([row not in dropped for row in rows.tolist()], bool)
        if not kept.any():
            continue
        mean = max(1, int(sizes[rows[kept]].mean()))
        chunk = int(min(max(CHUNK_BYTES // mean, MIN_CHUNK_ROWS), MAX_CHUNK_ROWS))
        for number, part in enumerate(_cut(np.where(kept, sizes[rows], 0), chunk, kept)):
            members = rows[part]
            out = {
                keys[row]: (dropped[row][1], f"as {keys[dropped[row][0]]}")
                for row in members.tolist()
                if row in dropped
            }
            low, high = int(draws[members[0]]), int(draws[members[-1]])
            plans.append(Plan(split, number, low, high, chunk, out))
    return plans


def dense_ids(whole: ds.Dataset, columns: Mapping[str, Column]) -> dict[str, pa.Array]:
    """For each column of ids of an unknown count: the ids that occur, sorted."""
    found: dict[str, pa.Array] = {}
    for name, column in columns.items():
        if isinstance(column, IdColumn) and not column.count:
            seen = pa.array([], pa.int64())
            for batch in whole.to_batches(columns=[name]):
                seen = pa.concat_arrays([seen, batch.column(0).unique()]).unique()
            found[name] = seen.sort()
    return found


def _duplicates(
    index: pa.Table,
    splits: NDArray[Any],
    draws: NDArray[np.uint64],
    rules: Cleaning,
    columns: Mapping[str, Column],
) -> dict[int, tuple[int, str]]:
    """Row → the row that stays in its place, and the rule."""
    held = np.where(splits == "test", 0, np.where(splits == "validation", 1, 2)).astype(np.uint64)
    order = np.lexsort((draws, held))
    rank = np.empty(len(order), np.uint64)
    rank[order] = np.arange(len(order), dtype=np.uint64)
    dropped: dict[int, tuple[int, str]] = {}
    if rules.exact_duplicates:
        same = duplicates.exact(index.column("_digest").to_numpy(), rank)
        dropped |= {row: (kept, "duplicate") for row, kept in same.items()}
    for name, column in columns.items():
        mark = f"_near {name}"
        if mark not in index.column_names:
            continue
        values = index.column(mark).combine_chunks()
        if column.kind == "image":
            bits = rules.images.near_duplicates or 0
            alike = duplicates.near_images(np.asarray(values), rank, bits)
        else:
            signatures = np.asarray(values.flatten()).reshape(index.num_rows, -1)
            alike = duplicates.near_texts(signatures, rank, rules.text.near_duplicates or 1.0)
        dropped = {row: (kept, "near duplicate") for row, kept in alike.items()} | dropped
    return dropped


def _check_keys(whole: ds.Dataset, draws: NDArray[np.uint64]) -> None:
    """Raise DataError where two rows have one key, and so one draw."""
    order = np.argsort(draws, kind="stable")
    twice = np.flatnonzero(draws[order][1:] == draws[order][:-1])
    if len(twice):
        rows = pa.array(order[twice[:3]])
        keys = whole.to_table(columns=[KEY]).column(0).take(rows).to_pylist()
        raise DataError(
            f"{len(twice):,} rows have the key of another row: {', '.join(keys)}; the format must give each "
            f"row a key of its own"
        )


def _drop_copies(
    origins: NDArray[np.uint64], draws: NDArray[np.uint64], dropped: dict[int, tuple[int, str]]
) -> None:
    """Augmented copies go with their originals."""
    gone = {int(draws[row]): kept for row, (kept, _) in dropped.items()}
    for row in np.flatnonzero(origins != draws).tolist():
        if int(origins[row]) in gone and row not in dropped:
            dropped[row] = (gone[int(origins[row])], "copy of a duplicate")


def _keys(whole: ds.Dataset, dropped: Mapping[int, tuple[int, str]]) -> dict[int, str]:
    """The keys of the rows that are dropped and of those that stay in their place."""
    rows = sorted({*dropped, *(kept for kept, _ in dropped.values())})
    if not rows:
        return {}
    keys = whole.to_table(columns=[KEY]).column(0).take(pa.array(rows)).to_pylist()
    return dict(zip(rows, keys, strict=True))


def _cut(sizes: NDArray[np.int64], chunk: int, kept: NDArray[np.bool_]) -> list[slice]:
    """Ranges of about `SHARD_BYTES`, each of whole chunks but the last."""
    cuts = [0]
    held = size = 0
    for row, (row_bytes, stays) in enumerate(zip(sizes.tolist(), kept.tolist(), strict=True)):
        held += stays
        size += row_bytes
        if held and held % chunk == 0 and stays and (size >= SHARD_BYTES or held >= SHARD_ROWS):
            cuts.append(row + 1)
            held = size = 0
    if cuts[-1] < len(sizes):
        if held or len(cuts) == 1:
            cuts.append(len(sizes))
        else:
            cuts[-1] = len(sizes)  # only dropped rows are left: they go with the last shard
    return [slice(a, b) for a, b in pairwise(cuts)]
