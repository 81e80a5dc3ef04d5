"""One pass of one contender of this environment: `python -m benchmarks.stream_ours CONTENDER JOB`.

The job is JSON: the store's URL and the dataset's name. Prints its figures as JSON.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import torch
from benchmarks.picture_model import Pictures
from benchmarks.stream_measure import BATCH, Pass, answer, decoded, drained, measured

from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Stream, local_batches, ray_batches, ray_dataset, to_batch
from genloom_platform.store import Store

COLUMNS = ["image", "label"]
RESUMES = 5
_KEPT: list[Any] = []
"""Ray's handles of what has run: an actor that ends takes its CPU time along, uncounted."""


@dataclass(frozen=True)
class Job:
    """What is read: JSON on the command line."""

    store: str
    dataset: str

    def stream(self) -> Stream:
        """A stream as a run would open it: nothing of an earlier one is remembered."""
        store = Store(self.store)
        return Stream(store, manifests.load(store, self.dataset), Pictures(), BATCH, seed=1)


def steps_of(stream: Stream) -> int:
    """Whole batches of an epoch."""
    return stream.order.rows // BATCH


def local(job: Job) -> list[Pass]:
    """Our stream in this process."""
    stream = job.stream()
    columns = local_batches(stream, 0, steps_of(stream))
    return [drained(to_batch(stream.trainable, each) for each in columns)]


def on_ray(job: Job, workers: int) -> list[Pass]:
    """Our stream on Ray Data, dealt out to consumers as Ray Train does it."""
    return _dealt(job, 0, None, workers)


def _dealt(job: Job, start: int, stop: int | None, workers: int) -> list[Pass]:
    import ray

    stream = job.stream()
    dataset = ray_dataset(stream, start, stop or steps_of(stream), workers)

    @ray.remote(num_cpus=0)
    def consume(shard: Any) -> Pass:
        return drained(to_batch(Pictures(), each) for each in ray_batches(shard))

    shards = dataset.streaming_split(workers, equal=True)
    _KEPT.append(shards)
    return ray.get([consume.remote(shard) for shard in shards])


def scan(job: Job, member: int = 0, members: int = 1) -> Pass:
    """The limit: our shards as Arrow reads them in order, decoded and stacked."""
    store = Store(job.store)
    manifest = manifests.load(store, job.dataset)
    paths = [store.path(manifest.path_of(shard)) for shard in manifest.shards_of("train")]
    shards = ds.dataset(paths, filesystem=store.fs, format="parquet")
    if members > 1:
        groups = [group for each in shards.get_fragments() for group in each.split_by_row_group()]
        shards = ds.FileSystemDataset(
            groups[member::members], shards.schema, groups[0].format, filesystem=store.fs
        )
    batches = shards.to_batches(batch_size=BATCH, columns=COLUMNS)
    return drained(_stacked(each.to_pydict()) for each in batches if each.num_rows)


def scan_in_two(job: Job) -> list[Pass]:
    """The same in two processes, each with half of the row groups; what they make stays there."""
    with get_context("fork").Pool(2) as pool:  # forked before Arrow has a thread: nothing is read here
        return pool.starmap(scan, [(job, 0, 2), (job, 1, 2)])


def bare_ray_data(job: Job) -> list[Pass]:
    """Ray Data as its guide has it: read, map, iterate; in order, for it has no cheap shuffle."""
    import ray.data

    store = Store(job.store)
    manifest = manifests.load(store, job.dataset)
    paths = [store.path(manifest.path_of(shard)) for shard in manifest.shards_of("train")]
    rows = ray.data.read_parquet(paths, filesystem=store.fs, columns=COLUMNS)
    arrays = rows.map_batches(_decoded_columns, batch_size=BATCH)
    return [drained(arrays.iter_torch_batches(batch_size=BATCH))]


def _decoded_columns(columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "image": np.stack([decoded(data) for data in columns["image"]]),
        "label": columns["label"],
    }


def _stacked(columns: dict[str, Any]) -> dict[str, torch.Tensor]:
    decoded_columns = _decoded_columns(columns)
    return {name: torch.as_tensor(array) for name, array in decoded_columns.items()}


def resumes(job: Job) -> dict[str, dict[str, float]]:
    """Seconds to the first batch from step 0 and from 90 % of an epoch: medians of interleaved openings."""
    stream = job.stream()
    late = steps_of(stream) * 9 // 10
    ways = {"no Ray": _first_local, "Ray Data, 1 consumer": _first_on_ray}
    times: dict[str, dict[str, list[float]]] = {way: {"start": [], "late": []} for way in ways}
    for way, first_s in ways.items():
        first_s(job, 0)  # imports, and Ray's processes
        for _ in range(RESUMES):
            times[way]["start"].append(first_s(job, 0))
            times[way]["late"].append(first_s(job, late))
    return {
        way: {name: statistics.median(values) for name, values in each.items()}
        for way, each in times.items()
    }


def _first_local(job: Job, start: int) -> float:
    opened_at = time.monotonic()
    stream = job.stream()
    batches: Iterator[Any] = local_batches(stream, start, start + steps_of(stream))
    to_batch(stream.trainable, next(batches))
    return time.monotonic() - opened_at


def _first_on_ray(job: Job, start: int) -> float:
    """The rest is drained too, so that the next opening finds the cluster idle."""
    opened_at = time.monotonic()
    (only,) = _dealt(job, start, start + steps_of(job.stream()), 1)
    return only.first_at - opened_at


def connect() -> None:
    """A cluster whose processes have imported what they need, as it is when a run has begun."""
    import ray.data

    from genloom_platform import cluster

    os.environ["RAY_idle_worker_killing_time_threshold_ms"] = "3600000"  # noqa: SIM112  as for `_KEPT`
    cluster.connect(4)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True

    @ray.remote(num_cpus=0)
    def import_all(seconds: float) -> None:
        import benchmarks.stream_ours  # noqa: F401

        time.sleep(seconds)  # so that each lands in a process of its own

    ray.get([import_all.remote(1.0) for _ in range(4)])
    ray.data.range(8).map(lambda row: row).materialize()


CONTENDERS = {
    "ours, no Ray": local,
    "ours on Ray Data, 1 consumer": lambda job: on_ray(job, 1),
    "ours on Ray Data, 2 consumers": lambda job: on_ray(job, 2),
    "limit: pyarrow scan, 1 process": lambda job: [scan(job)],
    "limit: pyarrow scan, 2 processes": scan_in_two,
    "bare Ray Data, 1 consumer": bare_ray_data,
}


def main() -> None:
    """Run what the command line names."""
    contender, job = sys.argv[1], Job(**json.loads(sys.argv[2]))
    if contender == "resume":
        connect()
        answer(resumes(job))
        return
    if "Ray Data" in contender:
        connect()
    answer(measured(lambda: CONTENDERS[contender](job)))


if __name__ == "__main__":
    main()
