"""One training worker: `loop.train` under Ray Train. The next file to read is `loop.py`."""

import os
import socket
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import genloom
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Columns, Stream, ray_batches
from genloom_platform.models.start import Start, prepare
from genloom_platform.store import Store
from genloom_platform.train.background import repeating
from genloom_platform.train.inbox import Place, Shown
from genloom_platform.train.logs import logged
from genloom_platform.train.progress import Clock, Report, figures, held_bytes
from genloom_platform.train.recovery import Sign

if TYPE_CHECKING:
    from genloom_platform.train.engine import Engine
    from genloom_platform.train.saver import Saver
    from genloom_platform.train.validation import Validator

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
    """Its number in the run's history."""
    workers: int
    step: int
    """The step whose checkpoint it goes on from; 0 for none."""
    start: Start | None = None
    """What a finetune starts with."""
    passed_over: frozenset[int] = frozenset()
    """Steps that are not trained on."""
    origin: str | None = None
    """The run whose checkpoint that is, where it is another's."""
    release: bool = True
    """Export the result when all steps are done."""
    mark: str = ""
    """In the names of the attempt's files. Not its number: one whose driver is killed is never recorded, and
    the next has the same. The number, where there is none."""

    def stream(self) -> Stream:
        """The dataset's stream for this run."""
        manifest = manifests.load(self.store, self.dataset)
        trainable, config = self.config.trainable(), self.config
        held_out = config.validation.held_out if config.validation else 0
        return Stream(
            self.store, manifest, trainable, config.global_batch, config.seed, held_out=held_out
        )


class Line(Protocol):
    """The way between a rank and whoever drives it."""

    def report(self, report: Report) -> bool:
        """Tell how far the run is, from rank 0; returns whether to save and end."""
        ...

    def saved(self, step: int, metrics: dict[str, float], commit: Callable[[], None]) -> None:
        """A checkpoint has been taken; `commit` waits until it lies in the store."""
        ...

    def show(self, shown: Shown) -> None:
        """Samples have been made, from the rank that made them."""
        ...

    def ended(self, step: int) -> None:
        """All is done and stored, from rank 0."""
        ...

    def beating(self, clock: Clock) -> AbstractContextManager[None]:
        """Give signs of life while a block runs."""
        ...


def work(config: dict[str, Any]) -> None:
    """Train, and export the result when all steps are done. Ray Train calls it on every worker.

    Args:
        config: `job`, the Job; `shares`, each rank's end of the stream, which the driver has entered at the
            checkpoint's place; see attempt.py.
    """
    job: Job = config["job"]
    import ray.train
    import ray.util

    context = ray.train.get_context()
    rank = context.get_world_rank()
    os.environ["LOCAL_SIZE"] = str(context.get_local_world_size())
    where = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    with logged(job.store, job.run, rank, where):
        batches = ray_batches(config["shares"][rank])
        Rank(job, rank, lambda stream, number: batches, ToInbox(job, rank)).train()


class Rank:
    """What the loop is given on one rank."""

    def __init__(
        self, job: Job, rank: int, batches: Callable[[Stream, int], Iterator[Columns]], line: Line
    ) -> None:
        self._job, self._rank, self._line = job, rank, line
        self._read = batches
        self._clock = Clock(marked=job.config.profile)
        self._peak, self._flops = 0.0, 0
        self._saver: Saver | None = None
        self._validator: Validator | None = None
        self._done = job.step

    def train(self) -> None:
        """Train to the last step, or until it is asked to end."""
        import torch

        job = self._job
        torch.set_num_threads(max(1, int(job.config.scale.cpus_per_worker)))
        os.environ.setdefault("GENLOOM_STORE", job.store.url)
        with self._line.beating(self._clock):
            from genloom_platform.train import loop

            self._stream = stream = job.stream()
            with self._clock.collectives():
                if job.config.validation:
                    from genloom_platform.train.validation import Validator

                    self._validator = Validator(job.config, stream)
                engine = loop.train(
                    job.config, stream.trainable, stream.data, self._batches, self._report,
                    self._save, self._resume, job.passed_over, self._clock, self._show,
                    partial(self._prepare, stream.data),
                )  # fmt: skip
            assert self._saver
            with self._clock.spend("checkpoint"):
                if self._done == job.config.steps and job.release:
                    self._export(engine, stream)
                self._saver.wait()
            if self._rank == 0:
                self._line.ended(self._done)

    def _batches(self, number: int) -> Iterator[Columns]:
        from genloom_platform.train import profiling

        batches = self._read(self._stream, number)
        if not self._job.config.profile:
            return batches
        rounds = max(objective.repeats for objective in self._stream.trainable.objectives())
        return profiling.profiled(batches, rounds, self._job.store, self._job.run, self._rank)

    def _prepare(self, data: Any, model: Any) -> None:
        job = self._job
        if job.config.finetune:
            assert job.start, "a finetune is planned before its workers start: Job(start=run.start)"
            prepare(job.store, job.config, job.start, data, model, fresh=not job.step)

    def _report(self, engine: "Engine", report: Report) -> bool:
        config = self._job.config
        self._done = report.step
        saving = report.step % config.checkpoint.every == 0 or report.step == config.steps
        if self._validator and saving and report.metrics:
            with self._clock.spend("checkpoint"):
                report.metrics[-1].update(self._validator.measure(engine))
        if self._flops and report.seconds:
            report = report._replace(mfu=self._flops / sum(report.seconds.values()) / self._peak)
        if self._rank > 0:
            return False
        print(
            f"step {report.step:,}/{config.steps:,}  {figures(report)}", flush=True
        )  # to the run's log
        return self._line.report(report)

    def _resume(self, engine: "Engine") -> int:
        from genloom_platform.train import checkpoint, flops
        from genloom_platform.train.saver import Saver

        job = self._job
        self._saver = Saver(job.store, job.run, engine, job.mark or str(job.attempt))
        self._peak = flops.peak(engine.device, job.config.precision)
        self._flops = flops.of_a_step(self._stream, engine.world) if self._peak else 0
        return checkpoint.load(job.store, job.origin or job.run, engine, job.step) if job.step else 0

    def _save(self, engine: "Engine", step: int, metrics: dict[str, float]) -> None:
        assert self._saver
        self._saver.save(step, metrics)
        self._line.saved(step, metrics, self._saver.wait)

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
            self._line.show(shown)

    def _export(self, engine: "Engine", stream: Stream) -> None:
        from genloom_platform.models import release

        with engine.gathered() as module:
            if self._rank == 0:
                job = self._job
                release.export(job.store, job.run, job.config, module, stream.manifest, job.start)


class ToInbox:
    """The line to a driver that watches an inbox."""

    def __init__(self, job: Job, rank: int) -> None:
        self._inbox, self._attempt, self._rank = job.inbox, job.attempt, rank
        self._every_s = min(2.0, job.config.recovery.hung_s / BEATS)

    def report(self, report: Report) -> bool:
        """Leave a report."""
        import ray

        return ray.get(self._inbox.put.remote(self._attempt, report))

    def saved(self, step: int, metrics: dict[str, float], commit: Callable[[], None]) -> None:
        """Training goes on while the checkpoint is stored."""

    def show(self, shown: Shown) -> None:
        """Leave word of them."""
        self._inbox.show.remote(self._attempt, shown)

    def ended(self, step: int) -> None:
        """Say so."""
        import ray

        ray.get(self._inbox.end.remote(self._attempt, step))

    @contextmanager
    def beating(self, clock: Clock) -> Generator[None]:
        """Give signs of life from a thread of its own."""
        import ray

        place = Place(ray.get_runtime_context().get_node_id(), os.getpid())
        inbox, attempt = self._inbox, self._attempt

        def beat() -> None:
            phase_s = time.monotonic() - clock.changed_at
            sign = Sign(clock.step, clock.phase, phase_s, 0, held_bytes())
            inbox.beat.remote(attempt, self._rank, place, sign)

        try:
            with repeating(beat, self._every_s):
                yield
        finally:
            inbox.beat.remote(attempt, self._rank, place, None)
