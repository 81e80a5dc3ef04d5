"""A run's course: attempt after attempt, as recovery decides. The next file to read is `attempt.py`."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from genloom.errors import GenloomError, StoreError, TrainingError
from genloom_platform import autoscaling, cluster
from genloom_platform.observe.metrics import Metrics
from genloom_platform.observe.tracking import Tracking
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, recovery, runs
from genloom_platform.train.attempt import Watch, attempt
from genloom_platform.train.checkpoint import Found
from genloom_platform.train.inbox import Shown, start_inbox
from genloom_platform.train.progress import Report
from genloom_platform.train.room import Notice, Wish
from genloom_platform.train.runs import Run
from genloom_platform.train.saver import patiently
from genloom_platform.train.worker import Job

ROOM_S = 600.0
"""How long a run waits for the fewest workers that it may train with, where no autoscaler brings machines."""
ROOM_POLL_S = 1.0
RESIZE_AGAIN_S = 60.0
SETTLE_S = 10.0
"""How long an elastic run looks for its most workers before it goes on with fewer."""


@dataclass(frozen=True)
class Errand:
    """What a course is asked for beyond a plain run's."""

    origin: str | None = None
    """The run whose checkpoint it begins with, as long as it has none of its own."""
    step: int = 0
    """That checkpoint's."""
    release: bool = True
    """Export the result when all steps are done."""
    to_end: Callable[[], bool] = lambda: False
    """Whether it is to save and end."""


class Course:
    """A run on its way: attempt after attempt, until `recovery.decide` ends it."""

    def __init__(
        self,
        store: Store,
        run: Run,
        tracking: Tracking | None,
        lost: Callable[[], bool],
        on_report: Callable[[Report], None],
        on_event: Callable[[str], None],
        errand: Errand | None = None,
    ) -> None:
        self.store, self.run = store, run
        self.step, self.metrics = 0, dict[str, float]()
        self._tracking = tracking
        """None where someone else tracks the run."""
        self._lost = lost
        """Whether another process has taken the run over."""
        self._errand = errand or Errand()
        self._on_report, self._on_event = on_report, on_event
        self._history = runs.history(store, run.name)
        self._begun = len(self._history)
        self._began_at = 0.0
        self._unseen = self._best_sought = False
        self._prometheus = Metrics(run.name, run.config.generator_name)

    @property
    def lost(self) -> bool:
        """Whether another process has taken the run over."""
        return self._lost()

    def goes_on_from(self, found: Found) -> None:
        """Stand where a checkpoint does, whatever ends the course before its workers report."""
        self.step = found.step or self._errand.step
        self.metrics = found.checkpoint.metrics if found.checkpoint else {}

    def train(self) -> bool:
        """Attempt until the run is finished (true) or was asked to stop (false).

        Raises:
            TrainingError: It has failed.
        """
        import ray

        from genloom_platform.train import controller

        self._inbox, self._controller = start_inbox(), controller.take()
        try:
            finished = self._train()
        except BaseException:
            # And with it the workers, where something has ended this process's watch over them.
            ray.kill(self._controller)
            raise
        finally:
            ray.kill(self._inbox)
        controller.give_back(self._controller)
        return finished

    def _train(self) -> bool:
        from genloom_platform.train import controller

        watch = Watch(self._seen, self._shown, self._asked_to_stop, self._room_to_grow, self._on_event)
        while True:
            self._controller = controller.living(self._controller, controller.start)
            self._inbox = controller.living(self._inbox, start_inbox)
            job = self._job()
            self._began_at = time.monotonic()
            self._prometheus.begin(job.workers)
            made, error = attempt(job, watch, self._controller)
            self._prometheus.end(made.ending)
            self.step = made.step
            self._history.append(made)
            if self.lost:
                raise TrainingError(f"another process has taken the run {self.run.name} over; let it")
            patiently(self.store, lambda: runs.record(self.store, self.run.name, self._history))
            decision = recovery.decide(self._history[self._begun :], self.run.config.recovery)
            if isinstance(decision, recovery.End):
                return decision.finished
            if isinstance(decision, recovery.GiveUp):
                raise _failed(self.store, self.run, decision, error) from error
            self._on_event(decision.reason)
            time.sleep(decision.wait_s)

    def _job(self) -> Job:
        """The next attempt: from the newest good checkpoint, with the workers that there is room for."""
        avoid = recovery.avoid(self._history)
        name = self.run.name
        found = patiently(self.store, lambda: checkpoint.find(self.store, name, avoid.checkpoints))
        for step, why in found.damaged.items():
            self._on_event(f"the checkpoint of step {step:,} is passed over: {why}")
        self.goes_on_from(found)
        workers = self._wait_for_room()
        where = f"step {found.step:,}" if found.step else "the beginning"
        if len(self._history) > self._begun:
            count = f"{workers} worker{'s' if workers > 1 else ''}"
            self._on_event(f"goes on from {where} with {count}")
        return Job(
            store=self.store,
            run=self.run.name,
            config=self.run.config,
            dataset=self.run.dataset,
            inbox=self._inbox,
            attempt=len(self._history) + 1,
            mark=secrets.token_hex(4),
            workers=workers,
            step=self.step,
            start=self.run.start,
            passed_over=avoid.steps,
            origin=None if found.step else self._errand.origin,
            release=self._errand.release,
        )

    def _wait_for_room(self) -> int:
        """The number of workers to train with, once there is room for the fewest.

        Raises:
            TrainingError: There was none for long.
        """
        scale, until = self.run.config.scale, time.monotonic() + ROOM_S
        settled = time.monotonic() + (SETTLE_S if self._history[self._begun :] else 0)
        notice, wish = Notice(self._on_event), None
        try:
            while True:
                workers = self._room_for(0) if scale.elastic else scale.most
                # What the last attempt held is given back one by one.
                if workers == scale.most or (workers and time.monotonic() > settled):
                    return workers
                if wish and wish.has_come():
                    return self._allowed(wish.workers)
                if self._asked_to_stop():
                    return scale.fewest  # the attempt will hear of it too, and end before it begins
                if not workers:
                    notice.waits(scale.fewest, scale)
                    if not wish and autoscaling.machines():
                        wish = Wish(scale.most, scale.cpus_per_worker, scale.gpus_per_worker)
                if not wish and time.monotonic() > until:
                    raise TrainingError(
                        f"the cluster had no room for {scale.fewest} workers for {ROOM_S:.0f} s; add nodes, or "
                        f"lower scale.workers"
                    )
                time.sleep(ROOM_POLL_S)
        finally:
            if wish:
                wish.end()

    def _room_for(self, running: int) -> int:
        scale = self.run.config.scale
        slots = cluster.slots(scale.cpus_per_worker, scale.gpus_per_worker, running=running > 0)
        return self._allowed(slots)

    def _allowed(self, slots: int) -> int:
        config = self.run.config
        return recovery.workers_for(config.scale, slots, config.global_batch // config.accumulate)

    def _room_to_grow(self, running: int) -> int:
        """The same while an attempt runs; less and less often where growing has failed."""
        tries = recovery.vain_resizes(self._history)
        if tries and time.monotonic() - self._began_at < RESIZE_AGAIN_S * 2**tries:
            return 0
        return self._room_for(running)

    def _asked_to_stop(self) -> bool:
        try:
            asked = runs.asked_to_stop(self.store, self.run.name)
        except StoreError:
            asked = False  # the store is away for a while, and will be asked again
        return asked or self.lost or self._errand.to_end()

    def _seen(self, report: Report) -> None:
        self.step = report.step
        self.metrics = report.metrics[-1] if report.metrics else self.metrics
        if self._tracking:
            self._tracking.log(report)
        self._prometheus.log(report)
        self._on_report(report)
        config = self.run.config
        saved = report.step % config.checkpoint.every == 0 or report.step == config.steps
        if saved and report.metrics and not self._best_sought:
            self._best_sought = True
            fault = without_best(config.checkpoint.best, report.metrics[-1])
            if fault:
                self._on_event(fault)

    def _shown(self, shown: Shown) -> None:
        if shown.fault and self._unseen:
            return  # said once
        if shown.fault:
            self._unseen = True
            self._on_event(
                f"no samples are shown: {shown.fault}; see samples.prompt, or give samples.every=0"
            )
            return
        if self._tracking:
            self._tracking.show(shown)
        self._on_event(f"samples of step {shown.step:,}: {self.store.url}/{shown.places[0]}")


def without_best(best: str | None, metrics: Mapping[str, float]) -> str:
    """That no step has the metric of which the best checkpoint is to be kept, in words; empty where one has.

    Args:
        best: The metric; None where none is asked for.
        metrics: What a checkpoint's step has come to.
    """
    if best is None or best in metrics:
        return ""
    names = ", ".join(sorted(metrics)) or "none"
    return (
        f"no checkpoint stays as the best: the run reports no {best!r}; give checkpoint.best one of those "
        f"that are reported: {names}"
    )


def _failed(
    store: Store, run: Run, decision: recovery.GiveUp, error: BaseException | None
) -> BaseException:
    """A worker's own error where it is one of ours; else one that says where to read on."""
    if isinstance(error, GenloomError) and str(error) == decision.message:
        return error
    return TrainingError(
        f"the run {run.name} failed: {decision.message}; its log is {store.url}/runs/{run.name}/logs"
    )
