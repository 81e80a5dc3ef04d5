"""One training worker: `loop.train` under Ray Train. The next file to read is `loop.py`."""

import os
import socket
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Columns, Stream, ray_batches
from genloom_platform.store import Store


@dataclass(frozen=True)
class Job:
    """What a worker is told."""

    store: Store
    run: str
    config: RunConfig
    dataset: str
    inbox: Any
    """The actor that takes reports to the driver."""

    def stream(self) -> Stream:
        """The dataset's stream for this run."""
        manifest = manifests.load(self.store, self.dataset)
        trainable = self.config.trainable()
        return Stream(self.store, manifest, trainable, self.config.global_batch, self.config.seed)


def work(config: dict[str, Job]) -> None:
    """Train, and export the result when all steps are done. Ray Train calls it on every worker."""
    job = config["job"]
    import ray.train

    context = ray.train.get_context()
    rank = context.get_world_rank()
    os.environ["LOCAL_SIZE"] = str(context.get_local_world_size())
    with _logged(job.store, job.run, rank):
        _train(job, rank)


def _train(job: Job, rank: int) -> None:
    import ray
    import ray.train
    import torch

    from genloom_platform.models import release
    from genloom_platform.train import checkpoint, loop
    from genloom_platform.train.engine import Engine

    torch.set_num_threads(max(1, int(job.config.scale.cpus_per_worker)))
    os.environ.setdefault("GENLOOM_STORE", job.store.url)
    stream = job.stream()

    def batches(_: int) -> Iterator[Columns]:
        # The driver has entered the stream at the checkpoint's place; see launch.dataset.
        return ray_batches(ray.train.get_dataset_shard("train"))

    def report(step: int, metrics: list[dict[str, float]], rate: float) -> bool:
        return rank == 0 and ray.get(job.inbox.put.remote(step, metrics, rate))

    def resume(engine: Engine) -> int:
        newest = checkpoint.newest(job.store, job.run)
        return checkpoint.load(job.store, job.run, engine, newest) if newest else 0

    def save(engine: Engine, step: int) -> None:
        checkpoint.save(job.store, job.run, engine, step)
        if step == job.config.steps:
            with engine.gathered() as module:
                if rank == 0:
                    release.export(job.store, job.run, job.config, module, stream.manifest)

    loop.train(job.config, stream.trainable, stream.data, batches, report, save, resume)


@contextmanager
def _logged(store: Store, run: str, rank: int) -> Generator[None]:
    """Send all that this process prints, engines included, to the run's log."""
    relative = f"runs/{run}/logs/rank-{rank}.log"
    with tempfile.TemporaryDirectory(prefix="genloom-log-") as scratch:
        local = Path(scratch) / "log" if store.folder is None else store.folder / relative
        local.parent.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        with local.open("ab") as file:
            kept = [(stream, os.dup(stream)) for stream in (1, 2)]
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        print(f"rank {rank} on {socket.gethostname()}, process {os.getpid()}", flush=True)
        try:
            yield
        except BaseException:
            import traceback

            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in kept:
                os.dup2(copy, stream)
                os.close(copy)
            if store.folder is None:
                store.upload(local, relative)
