"""One training worker: `loop.train` under Ray Train. The next file to read is `loop.py`."""

import os
import socket
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import genloom
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Columns, Stream, ray_batches
from genloom_platform.store import Store
from genloom_platform.train.background import repeating
from genloom_platform.train.inbox import Place, Shown
from genloom_platform.train.logs import logged
from genloom_platform.train.progress import Clock, Report, held_bytes
from genloom_platform.train.recovery import Sign

if TYPE_CHECKING:
    from genloom_platform.train.engine import Engine
    from genloom_platform.train.saver import Saver

BEATS = 8
"""Signs of life within the time after which a worker counts as hung."""


@dataclass(frozen=True)
class Job:
    """What a worker is told."""

    store: Store
    run: str
    config: RunConfig
    dataset: str
    inbox: Any
    """The actor that takes reports to the driver."""
    attempt: int
    workers: int
    step: int
    """The step whose checkpoint it goes on from; 0 for none."""
    passed_over: frozenset[int] = frozenset()
    """Steps that are not trained on."""

    def stream(self) -> Stream:
        """The dataset's stream for this run."""
        manifest = manifests.load(self.store, self.dataset)
        trainable = self.config.trainable()
        return Stream(self.store, manifest, trainable, self.config.global_batch, self.config.seed)


def work(config: dict[str, Job]) -> None:
    """Train, and export the result when all steps are done. Ray Train calls it on every worker."""
    job = config["job"]
    import ray.train
    import ray.util

    context = ray.train.get_context()
    os.environ["LOCAL_SIZE"] = str(context.get_local_world_size())
    where = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    with logged(job.store, job.run, context.get_world_rank(), where):
        _Rank(job, context.get_world_rank()).train()


class _Rank:
    """What the loop is given on one rank."""

    def __init__(self, job: Job, rank: int) -> None:
        self._job, self._rank = job, rank
        self._clock = Clock(marked=job.config.profile)
        self._peak, self._flops = 0.0, 0
        self._saver: Saver | None = None
        self._done = job.step

    def train(self) -> None:
        import ray
        import torch

        torch.set_num_threads(max(1, int(self._job.config.scale.cpus_per_worker)))
        os.environ.setdefault("GENLOOM_STORE", self._job.store.url)
        with self._beating():
            from genloom_platform.train import loop

            self._stream = stream = self._job.stream()
            with self._clock.collectives():
                engine = loop.train(
                    self._job.config, stream.trainable, stream.data, self._batches, self._report,
                    self._save, self._resume, self._job.passed_over, self._clock, self._show,
                )  # fmt: skip
            assert self._saver
            with self._clock.spend("checkpoint"):
                if self._done == self._job.config.steps:
                    self._export(engine, stream)
                self._saver.wait()
            if self._rank == 0:
                ray.get(self._job.inbox.end.remote(self._job.attempt, self._done))

    def _batches(self, _: int) -> Iterator[Columns]:
        import ray.train

        from genloom_platform.train import profiling

        # The driver has entered the stream at the checkpoint's place; see attempt.py.
        batches = ray_batches(ray.train.get_dataset_shard("train"))
        if not self._job.config.profile:
            return batches
        rounds = max(objective.repeats for objective in self._stream.trainable.objectives())
        return profiling.profiled(batches, rounds, self._job.store, self._job.run, self._rank)

    def _report(self, engine: "Engine", report: Report) -> bool:
        import ray

        self._done = report.step
        if self._flops and report.seconds:
            report = report._replace(mfu=self._flops / sum(report.seconds.values()) / self._peak)
        return self._rank == 0 and ray.get(self._job.inbox.put.remote(self._job.attempt, report))

    def _resume(self, engine: "Engine") -> int:
        from genloom_platform.train import checkpoint, flops
        from genloom_platform.train.saver import Saver

        job = self._job
        self._saver = Saver(job.store, job.run, engine, job.attempt)
        self._peak = flops.peak(engine.device, job.config.precision)
        self._flops = flops.of_a_step(self._stream, engine.world) if self._peak else 0
        return checkpoint.load(job.store, job.run, engine, job.step) if job.step else 0

    def _save(self, engine: "Engine", step: int, metrics: dict[str, float]) -> None:
        assert self._saver
        self._saver.save(step, metrics)

    def _show(self, engine: "Engine", step: int) -> None:
        """Let the generator make something, on one rank; what goes wrong there is told and harms nothing."""
        from genloom_platform.train import showing

        trainable = self._stream.trainable
        if not isinstance(trainable, genloom.Generator):
            return
        with engine.shown() as module:
            if module is None:
                return
            try:
                asked = showing.prompts(self._stream, self._job.config.samples)
                made = showing.samples(trainable, module, asked)
                places = showing.write(self._job.store, self._job.run, step, made)
                shown = Shown(step, places, "")
            except Exception as error:
                traceback.print_exc()  # to the run's log
                shown = Shown(step, (), f"{type(error).__name__}: {error}".splitlines()[0])
            self._job.inbox.show.remote(self._job.attempt, shown)

    def _export(self, engine: "Engine", stream: Stream) -> None:
        from genloom_platform.models import release

        with engine.gathered() as module:
            if self._rank == 0:
                job = self._job
                release.export(job.store, job.run, job.config, module, stream.manifest)

    @contextmanager
    def _beating(self) -> Generator[None]:
        """Give signs of life from a thread of its own."""
        import ray

        place = Place(ray.get_runtime_context().get_node_id(), os.getpid())
        inbox, attempt = self._job.inbox, self._job.attempt

        def beat() -> None:
            phase_s = time.monotonic() - self._clock.changed_at
            sign = Sign(self._clock.step, self._clock.phase, phase_s, 0, held_bytes())
            inbox.beat.remote(attempt, self._rank, place, sign)

        try:
            with repeating(beat, min(2.0, self._job.config.recovery.hung_s / BEATS)):
                yield
        finally:
            inbox.beat.remote(attempt, self._rank, place, None)
