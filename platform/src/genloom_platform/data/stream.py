"""The stream: a dataset's rows, in their order, prepared, as each worker's share of global batches.

`Stream.blocks` is the whole of it for one process; `ray_dataset` runs the same on a cluster's CPU
workers. There, every read task makes the shares of one window in order, each a block of one row;
Ray Data keeps the order and deals the blocks out round robin.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load, save

import genloom
from genloom.errors import DataError, GenloomError
from genloom_platform.data import encoding, shards
from genloom_platform.data.held_out import HeldOut, KeptOrder
from genloom_platform.data.manifest import Manifest
from genloom_platform.data.mixture import MixedOrder, Mixture
from genloom_platform.data.order import Order
from genloom_platform.store import Store

SHARE = "share"
WINDOW_ROWS = 2048
MAX_WINDOW_ROWS = 1 << 16
WINDOW_BYTES = 16 << 20
MIN_WINDOW_CHUNKS = 8
READERS = 4
"""Shards that are read at the same time."""

Columns = Mapping[str, NDArray[Any]]
"""Prepared examples: name → array whose first dimension is the rows."""


@dataclass(frozen=True)
class Stream:
    """The endless sequence of one split's global batches."""

    store: Store
    manifest: Manifest
    trainable: genloom.Trainable
    global_batch: int
    seed: int = 0
    split: str = "train"
    held_out: int = 0
    """One row of so many of each dataset is held out (`held_out.py`); 0 for none."""

    @cached_property
    def data(self) -> genloom.Data:
        """The facts of the dataset that the generator asked for."""
        return self.manifest.facts_for(self.trainable)

    @cached_property
    def order(self) -> Order | KeptOrder | MixedOrder:
        """Which row comes when."""
        if isinstance(self.manifest, Mixture):
            members = [self._order_of(member) for member in self.manifest.members]
            return MixedOrder(members, self.manifest.weights, self.seed)
        return self._order_of(self.manifest)

    def _order_of(self, manifest: Manifest) -> Order | KeptOrder:
        sizes = [rows for shard in manifest.shards_of(self.split) for rows in shard.chunks]
        if self.held_out:
            held_out = HeldOut(self.held_out, manifest.digest)
            kept = np.diff(held_out.kept_before(np.concatenate([[0], np.cumsum(sizes)])))
            return KeptOrder(self._order_over(manifest, kept.tolist()), held_out, sum(sizes))
        return self._order_over(manifest, sizes)

    def _order_over(self, manifest: Manifest, sizes: Sequence[int]) -> Order:
        row_bytes = max(1, manifest.size_bytes // sum(manifest.splits.values()))
        window_rows = min(max(WINDOW_ROWS, WINDOW_BYTES // row_bytes), MAX_WINDOW_ROWS)
        window_rows = max(window_rows, min(MIN_WINDOW_CHUNKS * max(sizes), MAX_WINDOW_ROWS))
        batches = max(1, window_rows // self.global_batch)
        return Order(sizes, manifest.digest, self.seed, self.global_batch, batches)

    def blocks(self, start: int, stop: int, shares: int, only: int | None = None) -> Iterator[Columns]:
        """The examples of global batches `start` … `stop` - 1, each in `shares` equal blocks.

        Where `only` is given, that share of each batch alone.
        """
        size = self.global_batch // shares
        first, step = (0, size) if only is None else (only * size, self.global_batch)
        for rows, epochs, table, where in self._ahead(self.windows(start, stop)):
            for at in range(first, len(rows), step):
                part = slice(at, at + size)
                yield self._examples(table.take(where[part]), rows[part], epochs[part])

    def held_out_rows(self, most: int) -> list[dict[str, Any]]:
        """The values of the rows that are held out, or of `most` of them, spread over the split."""
        members = self.manifest.members if isinstance(self.manifest, Mixture) else [self.manifest]
        found: list[NDArray[np.int64]] = []
        first = 0
        for member in members:
            count = sum(sum(shard.chunks) for shard in member.shards_of(self.split))
            found.append(first + HeldOut(self.held_out, member.digest).rows(count))
            first += count
        rows = np.concatenate(found)
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
        table, where = self._fetch(rows)
        return list(encoding.decode(self.manifest.columns, table.take(where)))

    def _ahead(self, windows: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """The rows of each window, read while the one before is worked on."""

        def load(window: tuple[int, int]) -> Any:
            rows, epochs = self.order.places(*(number * self.global_batch for number in window))
            return rows, epochs, *self._fetch(rows)

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(load, windows[0]) if windows else None
            for following in [*windows[1:], None][: len(windows)]:
                assert coming
                window = coming.result()
                coming = pool.submit(load, following) if following else None
                yield window

    def windows(self, start: int, stop: int) -> list[tuple[int, int]]:
        """A range of global batches, cut where the windows of the order are."""
        length = self.order.window // self.global_batch
        cuts = [start, *range((start // length + 1) * length, stop, length), stop]
        return list(pairwise(cuts))

    def _fetch(self, rows: NDArray[np.int64]) -> tuple[pa.Table, NDArray[np.int64]]:
        """The chunks that hold some rows as one table, and where in it each row stands."""
        split = self.manifest.shards_of(self.split)
        firsts = np.cumsum([0, *(len(shard.chunks) for shard in split)])
        sizes = np.array([size for shard in split for size in shard.chunks])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        chunk_of = np.searchsorted(starts, rows, side="right") - 1
        needed = np.unique(chunk_of)
        shard_of = np.searchsorted(firsts, needed, side="right") - 1
        wanted = self._wanted()

        def read(number: int) -> pa.Table:
            chunks = (needed[shard_of == number] - firsts[number]).tolist()
            return shards.read_chunks(self.store, self.manifest, split[number], chunks, wanted)

        with ThreadPoolExecutor(READERS) as pool:
            table = pa.concat_tables(pool.map(read, np.unique(shard_of).tolist()))
        laid = np.zeros(len(sizes), np.int64)
        laid[needed] = np.concatenate([[0], np.cumsum(sizes[needed])])[:-1]
        return table.combine_chunks(), laid[chunk_of] + rows - starts[chunk_of]

    def _wanted(self) -> list[str]:
        return [name for name in self.trainable.Data.model_fields if name in self.manifest.columns]

    def _examples(self, table: pa.Table, rows: NDArray[np.int64], epochs: NDArray[np.int64]) -> Columns:
        decoded = encoding.decode(self.manifest.columns, table)
        examples: list[genloom.Example] = []
        for values, row, epoch in zip(decoded, rows, epochs, strict=True):
            seeded = genloom.Row(values, (self.seed, int(epoch), int(row)), training=True)
            examples.append(prepare(self.trainable, seeded, self.data, int(row)))
        return stack(examples)


def prepare(trainable: genloom.Trainable, row: genloom.Row, data: Any, number: int) -> genloom.Example:
    """One prepared row; what goes wrong in the plugin is told with the row's number."""
    try:
        return trainable.prepare(row, data)
    except GenloomError:
        raise
    except Exception as error:
        name = f"{type(trainable).__name__}.prepare"
        raise DataError(f"{name} failed on row {number}: {type(error).__name__}: {error}") from error


def stack(examples: list[genloom.Example]) -> Columns:
    """Examples as one array a name; an object array where shapes differ."""
    columns: dict[str, NDArray[Any]] = {}
    for name in examples[0]:
        values = [np.asarray(example[name]) for example in examples]
        if len({value.shape for value in values}) == 1:
            columns[name] = np.stack(values)
        else:
            columns[name] = np.empty(len(values), object)
            columns[name][:] = values
    return columns


def to_batch(trainable: genloom.Trainable, columns: Columns) -> genloom.Batch:
    """Prepared examples as the generator's batch, on the CPU."""
    import torch

    stackable = all(array.dtype != object for array in columns.values())
    if stackable and type(trainable).collate is genloom.Trainable.collate:
        return {
            name: torch.from_numpy(array)
            if array.flags.writeable and array.ndim
            else torch.tensor(array)
            for name, array in columns.items()
        }
    count = len(next(iter(columns.values())))
    return trainable.collate(
        [{name: array[i] for name, array in columns.items()} for i in range(count)]
    )


def ray_dataset(stream: Stream, start: int, stop: int, workers: int) -> Any:
    """Global batches `start` … `stop` - 1 as a Ray dataset: one row a worker and batch, in order."""
    import ray
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    windows = stream.windows(start, stop)
    # Without what it has computed here: the order is cheap to make, not to send. And as a reference, which only
    # the tasks open: who hands their blocks out need not import the plugin for it, and torch.
    sent = ray.put(replace(stream))

    class Windows(Datasource):
        """One read task for each window of the order."""

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[ReadTask]:
            return [self._task(begin, end) for begin, end in windows]

        def _task(self, begin: int, end: int) -> ReadTask:
            rows = (end - begin) * workers
            metadata = BlockMetadata(num_rows=rows, size_bytes=None, input_files=None, exec_stats=None)
            return ReadTask(lambda: _arrow_blocks(ray.get(sent), begin, end, workers), metadata)

    dataset = ray.data.read_datasource(Windows(), override_num_blocks=len(windows))
    context = dataset.context
    context.target_max_block_size = 1  # or Ray would join rows to larger blocks, across the workers
    context.execution_options.preserve_order = True
    return dataset


def _arrow_blocks(stream: Stream, begin: int, end: int, workers: int) -> Iterator[pa.Table]:
    """Each share as one row, which cannot be torn apart or joined with another worker's."""
    for columns in stream.blocks(begin, end, workers):
        yield pa.table({SHARE: pa.array([_pack(columns)], pa.large_binary())})


def ray_batches(shard: Any) -> Iterator[Columns]:
    """A worker's shares, as Ray Data hands them out."""
    for table in shard.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=4):
        yield _unpack(table.column(SHARE)[0].as_buffer())


def _pack(columns: Columns) -> bytes:
    """A share as safetensors; arrays of different shapes are numbered, as in "tokens/3"."""
    flat: dict[str, NDArray[Any]] = {}
    for name, array in columns.items():
        if array.dtype == object:
            flat |= {f"{name}/{index}": value for index, value in enumerate(array)}
        else:
            flat[name] = np.ascontiguousarray(array)
    return save(flat)


def _unpack(data: Any) -> Columns:
    flat = load(bytes(data))
    columns: dict[str, Any] = {name: array for name, array in flat.items() if "/" not in name}
    for name in {key.partition("/")[0] for key in flat if "/" in key}:
        count = sum(key.startswith(f"{name}/") for key in flat)
        columns[name] = np.empty(count, object)
        columns[name][:] = [flat[f"{name}/{index}"] for index in range(count)]
    return columns


def local_batches(
    stream: Stream, start: int, stop: int, rank: int = 0, workers: int = 1
) -> Iterator[Columns]:
    """One worker's share of global batches `start` … `stop` - 1, read in this process."""
    return stream.blocks(start, stop, workers, only=rank)


Batches = Callable[[int], Iterator[Columns]]
"""Given a global batch's number, one worker's share of that batch and of all that follow."""
