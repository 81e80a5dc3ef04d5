"""The training of a trial, in a thread: in this process where it has one worker, else on a group of workers."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pydantic import ValidationError

from genloom.data import Facts
from genloom_platform.config import RunConfig
from genloom_platform.store import Store
from genloom_platform.sweep.alone import Ended, train_alone
from genloom_platform.train import checkpoint, runs
from genloom_platform.train.course import Course, Errand
from genloom_platform.train.inbox import Shown
from genloom_platform.train.progress import Clock, Report
from genloom_platform.train.worker import Job

POLL_S = 0.1


class Pointer(Facts):
    """A checkpoint of a run."""

    run: str
    step: int


@dataclass(frozen=True)
class Look:
    """What a trial has come to at a checkpoint."""

    step: int
    metrics: dict[str, float]
    reports: list[Report]
    """All that was reported since the look before."""
    origin: Pointer | None
    """Another run's checkpoint that the trial went on from."""


def runs_alone(config: RunConfig) -> bool:
    """Whether a trial runs in its own process: one worker, on CPUs.

    With a GPU the preparation of rows must not hold the training up, so Ray Data does it, for a group.
    """
    return config.scale.most == 1 and not config.scale.gpus_per_worker


def start(
    store: Store, run: str, config: RunConfig, dataset: str, every: int, pointer: Pointer | None
) -> "Training":
    """Begin, or go on with, a trial's run."""
    kind = Alone if runs_alone(config) else Group
    return kind(store, run, config, dataset, every, beginning(store, run, pointer))


@dataclass(frozen=True)
class Beginning:
    """Where a training begins."""

    step: int
    """Steps that are done."""
    origin: Pointer | None
    """Another run's checkpoint, where the run was last begun from one."""
    again: bool = False
    """Whether the checkpoint is to be looked at first: the process that took it may not have come to tell."""

    def source(self, store: Store, run: str) -> str | None:
        """The run whose checkpoint is to be loaded, where it is another."""
        if self.origin is None or checkpoint.committed(store, run):
            return None
        return self.origin.run


def beginning(store: Store, run: str, pointer: Pointer | None) -> Beginning:
    """Find where a run goes on: from another's checkpoint, once; else from its own newest.

    A run that goes on from another leaves what it had behind, and remembers where it began, so that it does not
    begin there again when its process dies.
    """
    origin = _origin(store, run)
    if pointer and pointer.run != run and pointer != origin:
        store.delete(checkpoint.folder(run))
        store.write(f"runs/{run}/origin.json", pointer.model_dump_json().encode())
        origin = pointer
    own = checkpoint.find(store, run)
    if own.step or origin is None:
        return Beginning(own.step, origin, again=own.step > 0 and pointer is None)
    if origin.step in checkpoint.committed(store, origin.run):
        return Beginning(origin.step, origin)
    newest = checkpoint.find(store, origin.run)  # that run has gone further meanwhile, and pruned
    return Beginning(newest.step, Pointer(run=origin.run, step=newest.step))


def _origin(store: Store, run: str) -> Pointer | None:
    try:
        return Pointer.model_validate_json(store.read(f"runs/{run}/origin.json"))
    except (FileNotFoundError, ValidationError):
        return None


class Training(ABC):
    """A run on its way from look to look."""

    def __init__(
        self, store: Store, run: str, config: RunConfig, dataset: str, every: int, begin: Beginning
    ) -> None:
        self._store, self._run, self._config, self._dataset = store, run, config, dataset
        self._every, self._begin = every, begin
        self.step = begin.step
        """The step of the last look."""
        self._reports: list[Report] = []
        self._looks: list[Look] = []
        self._again = begin.again
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._train, daemon=True)

    def next(self) -> Look:
        """Go on to the next look.

        Raises:
            GenloomError: The training has failed.
        """
        if self._again:
            self._again = False
            return self._saved(self._begin.step)
        self._go_on()
        while True:
            ended = not self._thread.is_alive()  # asked before the looks are
            look = self._ready()
            if look is None and ended:
                if self._failure:
                    raise self._failure
                look = self._saved(self._config.steps)
            if look:
                self.step = look.step
                return look

    @abstractmethod
    def end(self) -> None:
        """End the training where it is."""

    @abstractmethod
    def _train(self) -> None:
        """What the thread does."""

    @abstractmethod
    def _go_on(self) -> None:
        """Let the thread go on to the next look."""

    @abstractmethod
    def _ready(self) -> Look | None:
        """Wait a moment for a look."""

    def _saved(self, step: int) -> Look:
        """A look at a checkpoint of the run from before: what it says of itself."""
        saved = checkpoint.read(self._store, self._run, step)
        return Look(step, saved.metrics, [], self._begin.origin)

    def _look(self, step: int, metrics: dict[str, float]) -> Look:
        reports, self._reports = self._reports, []
        return Look(step, metrics, reports, self._begin.origin)

    def _job(self) -> Job:
        return Job(
            store=self._store,
            run=self._run,
            config=self._config,
            dataset=self._dataset,
            inbox=None,
            attempt=int(
                time.time()
            ),  # names the files of this try, as attempts are counted by nobody here
            workers=1,
            step=self._begin.step,
            start=runs.find(self._store, self._run).start,
            origin=self._begin.source(self._store, self._run),
            release=False,
        )


class Alone(Training):
    """One worker: the loop in a thread of this process, which is its own line to the trial."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._told, self._free = threading.Event(), threading.Event()
        self._over = False

    def _train(self) -> None:
        try:
            train_alone(self._job(), self)
        except BaseException as error:  # told on the trial's own thread
            self._failure = error
        self._told.set()

    def _go_on(self) -> None:
        self._told.clear()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._free.set()

    def _ready(self) -> Look | None:
        self._told.wait()
        return self._looks.pop() if self._looks else None

    def end(self) -> None:
        """Wake the thread from its look, to leave the loop."""
        self._over = True
        self._free.set()
        if self._thread.ident is not None:
            self._thread.join()

    def report(self, report: Report) -> bool:
        """Keep it for the next look."""
        self._reports.append(report)
        return False

    def saved(self, step: int, metrics: dict[str, float], commit: Callable[[], None]) -> None:
        """A look: wait for the checkpoint, then for the decision."""
        commit()
        self._free.clear()
        self._looks.append(self._look(step, metrics))
        self._told.set()
        if step < self._config.steps:
            self._free.wait()
        if self._over:
            raise Ended

    def show(self, shown: Shown) -> None:
        """Trials show no samples."""

    def ended(self, step: int) -> None:
        """The thread ends."""

    def beating(self, clock: Clock) -> AbstractContextManager[None]:
        """Tune watches this process."""
        return nullcontext()


class Group(Training):
    """Several workers: a course of attempts, which trains on while it is looked at."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._over = threading.Event()

    def _train(self) -> None:
        origin = self._begin.source(self._store, self._run)
        errand = Errand(origin, self._begin.step if origin else 0, False, self._over.is_set)
        run = runs.find(self._store, self._run).model_copy(update={"config": self._config})
        try:
            Course(
                self._store, run, None, lambda: False, self._seen, lambda message: None, errand
            ).train()
        except BaseException as error:
            self._failure = error

    def _go_on(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def _seen(self, report: Report) -> None:
        self._reports.append(report)
        if report.step % self._every == 0 or report.step == self._config.steps:
            metrics = report.metrics[-1] if report.metrics else {}
            self._looks = [look for look in self._looks if look.step < report.step]
            self._looks.append(self._look(report.step, metrics))

    def _ready(self) -> Look | None:
        """The first look whose checkpoint lies in the store."""
        looks = list(self._looks)
        if looks and looks[0].step <= max(checkpoint.committed(self._store, self._run), default=0):
            self._looks.remove(looks[0])
            return looks[0]
        self._thread.join(POLL_S)
        return None

    def end(self) -> None:
        """Ask the workers to save and end, and wait for it, so that nothing of them is left in the cluster."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
