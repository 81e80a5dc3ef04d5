"""An attempt: one group of workers under Ray Train, watched from its start to its end.

Ray Train places, starts and ends the workers; this file hands on what they report, finds those that hang,
and says how the attempt ended. The next file to read is `worker.py`.
"""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from genloom_platform import cluster
from genloom_platform.data.stream import ray_dataset
from genloom_platform.train import checkpoint, recovery
from genloom_platform.train.background import interruptions
from genloom_platform.train.diagnosis import advice, explain
from genloom_platform.train.failures import DamagedCheckpoint, NonFiniteLoss
from genloom_platform.train.inbox import News, Place, Shown
from genloom_platform.train.progress import Report
from genloom_platform.train.recovery import RETRIED, Attempt, Ending
from genloom_platform.train.room import Notice
from genloom_platform.train.worker import Job, work

POLL_S = 0.2
SLOW_POLL_S = 2.0
"""Seconds between two looks at what seldom changes: signs of life, drained nodes, requests in the store."""
RESIZE_POLL_S = 15.0
GRACE_S = 30.0
"""How long the workers may take to end once one was killed, before all of them are ended at once."""


@dataclass
class Wish:
    """What the driver asks the workers to end for."""

    ending: Ending
    message: str


@dataclass(frozen=True)
class Watch:
    """What the driver does while an attempt runs."""

    on_report: Callable[[Report], None]
    on_shown: Callable[[Shown], None]
    asked_to_stop: Callable[[], bool]
    """Whether someone has asked the run to stop; may look in the store."""
    room_for: Callable[[int], int]
    """How many workers the cluster has room for, given those that run."""
    on_event: Callable[[str], None]
    """Called with a sentence for whoever watches the run."""


def attempt(job: Job, watch: Watch, controller: Any) -> tuple[Attempt, BaseException | None]:
    """Train from the job's checkpoint until something ends it; how, and the error where it is one.

    Args:
        job: What the workers are told.
        watch: What is done meanwhile.
        controller: The actor that Ray Train's controller runs in, of `controller.take`.
    """
    return _Attempt(job, watch, controller).run()


class _Attempt:
    """The state of an attempt while it runs."""

    def __init__(self, job: Job, watch: Watch, controller: Any) -> None:
        self._job, self._watch, self._controller = job, watch, controller
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._wish: Wish | None = None
        self._killed = ""
        self._step, self._step_s = job.step, 0.0
        self._held = 0
        self._places: dict[int, Place] = {}
        self._reports: deque[Report] = deque()
        self._ended_at: int | None = None
        self._looked_at = self._resized_at = time.monotonic()
        self._placed_at = self._killed_at = 0.0
        self._unplaced = False
        self._notice = Notice(watch.on_event)
        self._name = f"genloom-{job.run}-{job.attempt}-{job.mark}"

    def run(self) -> tuple[Attempt, BaseException | None]:
        import ray
        import ray.exceptions

        from genloom_platform.train import controller

        # Ray Train keeps checkpoints of its own here; ours are in the store, so what it writes may be lost.
        scratch = tempfile.mkdtemp(prefix="genloom-ray-")
        ray.get(self._job.inbox.begin.remote(self._job.attempt))
        threading.Thread(target=self._fit, args=(scratch,), daemon=True).start()
        ended = asked = False
        try:
            with interruptions() as pressed:
                while not ended:
                    # Asked before the inbox is emptied for the last time.
                    ended = self._over.wait(POLL_S)
                    self._look(ray.get(self._job.inbox.take.remote()), ended)
                    if pressed.is_set() and not asked:
                        asked = True
                        self._watch.on_event("saves, and then ends; Ctrl-C again ends it at once")
                        self._ask("stopped", "stopped by Ctrl-C")
        except ray.exceptions.RayActorError as error:
            self._end()  # the inbox has died: nothing would be heard of the workers any more
            self._over.wait(GRACE_S)
            self._failure = error
        finally:
            controller.free(self._name)
            shutil.rmtree(scratch, ignore_errors=True)
        return self._result()

    def _end(self) -> None:
        """End all workers at once, whatever state they are in."""
        from genloom_platform.train import controller

        controller.end(self._controller, self._name)

    def _fit(self, scratch: str) -> None:
        try:
            with _shares(self._job) as shares:
                self._trainer(shares, scratch).fit()
        except BaseException as error:
            self._failure = error
        finally:
            self._over.set()

    def _trainer(self, shares: list[Any], scratch: str) -> Any:
        import ray.train
        from ray.train.torch import TorchConfig

        from genloom_platform.train.controller import Trainer

        job, scale = self._job, self._job.config.scale
        gpus = scale.gpus_per_worker > 0
        resources = {"CPU": scale.cpus_per_worker} | ({"GPU": scale.gpus_per_worker} if gpus else {})
        return Trainer(
            self._controller,
            self._name,
            work,
            # Given to `datasets`, the stream would begin to start when the workers have started.
            train_loop_config={"job": job, "shares": shares},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=COLLECTIVE_S),
            scaling_config=ray.train.ScalingConfig(
                num_workers=job.workers, use_gpu=gpus, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(name=f"{job.run}-{job.attempt}", storage_path=scratch),
        )

    def _look(self, news: News, ended: bool) -> None:
        """Take in what the workers left, and see to what is due."""
        self._places, self._ended_at = news.places, news.ended_at
        self._reports += news.reports
        # Workers that have ended give no sign any more, and their last reports may be unread yet.
        self._held = max((sign.memory_bytes for sign in news.signs.values()), default=self._held)
        while self._reports:
            report = self._reports.popleft()
            self._step, self._step_s = report.step, sum(report.seconds.values())
            self._watch.on_report(report._replace(memory_bytes=self._held))
        for shown in news.shown:
            self._watch.on_shown(shown)
        now = time.monotonic()
        if ended or now - self._looked_at < SLOW_POLL_S:
            return
        self._looked_at = now
        self._end_hung(news)
        if self._wish:
            return
        draining = cluster.draining() & {place.node for place in news.places.values()}
        if draining:
            self._ask("preempted", f"node {min(draining)[:8]} is about to go")
        elif self._watch.asked_to_stop():
            self._ask("stopped", "stopped on request")
        elif self._job.config.scale.elastic and now - self._resized_at > RESIZE_POLL_S:
            self._resized_at = now
            room = self._watch.room_for(self._job.workers)
            if room > self._job.workers and self._step > self._job.step:
                self._ask("resized", f"there is room for {room} workers")

    def _ask(self, ending: Ending, message: str) -> None:
        from genloom_platform.train import controller

        self._wish = Wish(ending, message)
        self._job.inbox.stop.remote()
        if ending == "stopped" and not self._placed_at and not controller.placed(self._name):
            self._unplaced = True  # no worker is there who would save
            self._end()

    def _end_hung(self, news: News) -> None:
        """Kill a worker that hangs; Ray Train then ends the others."""
        from genloom_platform.train import controller

        now, settings = time.monotonic(), self._job.config.recovery
        if self._killed_at:
            if now - self._killed_at > GRACE_S:
                self._killed_at = now
                self._end()
            return
        if not self._placed_at and controller.placed(self._name):
            self._placed_at = now
        elif not self._placed_at:
            self._notice.waits(self._job.workers, self._job.config.scale)
        since_s = now - self._placed_at if self._placed_at else 0
        silent = recovery.never_heard(news.places, self._job.workers, since_s, settings)
        ranks = recovery.hung(news.signs, self._step_s, settings)
        if silent:
            self._killed = f"worker {silent[0]} gave no sign of life in {since_s:.0f} s, and was killed"
            self._end()
        elif ranks:
            sign = news.signs[ranks[0]]
            heard = f"was silent for {sign.silent_s:.0f} s" if sign.silent_s > sign.phase_s else (
                f"has been in {sign.phase} for {sign.phase_s + sign.silent_s:.0f} s"
            )  # fmt: skip
            self._killed = f"worker {ranks[0]} {heard} at step {sign.step:,} and was killed"
            for rank in (ranks[0], *(other for other in news.places if other != ranks[0])):
                kill(news.places[rank])
        if self._killed:
            self._killed_at = now

    def _result(self) -> tuple[Attempt, BaseException | None]:
        ending, message, error = self._ending()
        bad = error.step if isinstance(error, (NonFiniteLoss, DamagedCheckpoint)) else None
        made = Attempt(
            number=self._job.attempt,
            workers=self._job.workers,
            from_step=self._job.step,
            step=self._step,
            ending=ending,
            message=message,
            ended_at=checkpoint.now(),
            bad_step=bad,
        )
        return made, error

    def _ending(self) -> tuple[Ending, str, BaseException | None]:
        if self._failure is None:
            assert self._ended_at is not None, "the workers ended, and said nothing"
            self._step = self._ended_at
            if self._ended_at >= self._job.config.steps:
                return "finished", "", None
            wish = self._wish or Wish("stopped", "")
            return wish.ending, wish.message, None
        if self._killed:
            ending, message, error = "worker hung", self._killed, self._failure
        else:
            ending, message, error = explain(self._failure, self._places)
        if self._wish and self._unplaced:
            return "stopped", self._wish.message, None
        if self._wish and self._wish.ending == "stopped" and ending in RETRIED:
            return "stopped", f"{self._wish.message}; before it had saved, {message}", None
        if ending == "out of memory":
            message += f"; {advice(self._job)}"
        if self._wish and self._wish.ending == "preempted" and ending == "worker died":
            return "preempted", self._wish.message, error
        return ending, message, error


def kill(place: Place) -> None:
    """End a process on whatever node it is; one that is stopped as well."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: Any = NodeAffinitySchedulingStrategy(place.node, soft=False)

    def end(process: int) -> None:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            return  # it has ended by itself meanwhile

    ray.remote(num_cpus=0, scheduling_strategy=there, max_retries=0)(end).remote(place.process)


@contextmanager
def _shares(job: Job) -> Generator[list[Any]]:
    """Each worker's end of the stream, entered at the attempt's step; with the block the stream ends."""
    import ray
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    stream = job.stream()
    rounds = max(objective.repeats for objective in stream.trainable.objectives())
    first = job.step * rounds
    dataset = ray_dataset(stream, first, max(job.config.steps * rounds, first + 1), job.workers)
    shares = dataset.streaming_split(job.workers, equal=True)
    try:
        yield shares
    finally:
        # It would read on, and hold the CPUs that the next one needs, until nobody knows of it any more.
        coordinator: Any = shares[0]._coord_actor  # pyright: ignore[reportAttributeAccessIssue]
        ray.wait([coordinator.shutdown_executor.remote()], timeout=END_S)
        _kill_later(coordinator)


def _kill_later(coordinator: Any) -> None:
    """Kill it once it has given back the processes that read for it: they would die with it.

    The next attempt's stream takes them over, with the plugin and torch imported.
    """
    import ray

    def kill_now() -> None:
        if ray.is_initialized():
            ray.kill(coordinator)

    timer = threading.Timer(END_S, kill_now)
    timer.daemon = True
    timer.start()


END_S = 5.0
"""How long a stream may take to end by itself, and to give back the processes that read for it."""
COLLECTIVE_S = 3600
"""Longer than any step: a worker that hangs is found by its signs, not by the others' patience."""
