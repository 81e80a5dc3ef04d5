"""Launch: the driver's side of a run. The next file to read is `attempt.py`, then `worker.py`.

A run is checked whole before anything is written; then it is attempted, again where recovery says so,
until the model is registered.
"""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass

from genloom import registry as plugins
from genloom.errors import GenloomError, RequestError, TrainingError
from genloom_platform import cluster
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.models import release
from genloom_platform.models.registry import Registry, Version
from genloom_platform.observe.metrics import Metrics
from genloom_platform.observe.tracking import Tracking
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, recovery, runs
from genloom_platform.train.attempt import Watch, attempt
from genloom_platform.train.inbox import Shown, start_inbox
from genloom_platform.train.lock import Lock
from genloom_platform.train.progress import Report
from genloom_platform.train.runs import Run, Status
from genloom_platform.train.worker import Job

ROOM_S = 600.0
"""How long a run waits for the fewest workers that it may train with."""
ROOM_POLL_S = 1.0
RESIZE_AGAIN_S = 60.0
SETTLE_S = 10.0
"""How long an elastic run looks for its most workers before it goes on with fewer."""


@dataclass(frozen=True)
class Trained:
    """How a run ended."""

    run: Run
    status: Status
    model: Version | None
    """What was registered; None where the run was stopped before its last step."""


def train(
    store: Store,
    config: RunConfig,
    *,
    name: str | None = None,
    on_start: Callable[[Run, int], None] = lambda run, step: None,
    on_report: Callable[[Report], None] = lambda report: None,
    on_event: Callable[[str], None] = lambda message: None,
) -> Trained:
    """Start a run and see it through.

    Args:
        store: Where datasets, the run and the model live.
        config: The run, as `config.resolve` gave it.
        name: The run's name; made from the generator and the time where None.
        on_start: Called with the run, and the step that it starts from.
        on_report: Called with every report of the workers.
        on_event: Called with a sentence when the run meets something: a failure, a change of its workers.

    Raises:
        RequestError: The dataset does not exist or fit, the name is taken, the cluster is too small.
        DataError: A shard is damaged.
        TrainingError: The training failed.
    """
    manifest = manifests.load(store, config.data)
    manifest.facts_for(config.trainable())
    name = runs.claim(store, name) if name else runs.new_name(store, config.generator_name)
    store.check_writable()
    shards.require(store, manifest)
    _connect(config)
    tracking = Tracking(Registry(store))
    plugin = plugins.find(config.generator_name)
    run = Run(
        name=name,
        config=config,
        dataset=manifest.full_name,
        package=plugin.package,
        package_version=plugin.version,
        tracking_id=tracking.start(name, config, manifest),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    )
    with Lock(store, name) as lock:
        runs.create(store, run)
        on_start(run, 0)
        return _Course(store, run, tracking, lock, on_report, on_event).see_through()


def resume(
    store: Store,
    name: str,
    *,
    on_start: Callable[[Run, int], None] = lambda run, step: None,
    on_report: Callable[[Report], None] = lambda report: None,
    on_event: Callable[[str], None] = lambda message: None,
) -> Trained:
    """Go on with a run from its newest checkpoint; arguments and errors as for `train`."""
    run = runs.find(store, name)
    if runs.status(store, name).state == "finished":
        raise RequestError(f"the run {name} is finished; start another to train more")
    _connect(run.config)
    with Lock(store, name) as lock:
        tracking = Tracking(Registry(store), run.tracking_id)
        avoid = recovery.avoid(runs.history(store, name))
        found = checkpoint.find(store, name, avoid.checkpoints)
        store.remove(f"runs/{name}/stop")
        runs.set_status(store, name, Status(state="running", step=found.step))
        on_start(run, found.step)
        return _Course(store, run, tracking, lock, on_report, on_event).see_through()


def _connect(config: RunConfig) -> None:
    scale = config.scale
    cluster.connect(scale.most * scale.cpus_per_worker)
    cluster.require(scale.fewest * scale.cpus_per_worker, scale.fewest * scale.gpus_per_worker)


class _Course:
    """A run on its way: attempt after attempt, until `recovery.decide` ends it."""

    def __init__(
        self,
        store: Store,
        run: Run,
        tracking: Tracking,
        lock: Lock,
        on_report: Callable[[Report], None],
        on_event: Callable[[str], None],
    ) -> None:
        self._store, self._run, self._tracking, self._lock = store, run, tracking, lock
        self._on_report, self._on_event = on_report, on_event
        self._inbox = start_inbox()
        self._history = runs.history(store, run.name)
        self._begun = len(self._history)
        self._step, self._metrics = 0, dict[str, float]()
        self._began_at = 0.0
        self._unseen = False
        self._prometheus = Metrics(run.name, run.config.generator_name)

    def see_through(self) -> Trained:
        """Train, evaluate, register; whatever happens, the run's status says it."""
        import ray

        store, name = self._store, self._run.name
        try:
            finished = self._train()
            model = _register(store, self._run, self._tracking.run_id) if finished else None
        except BaseException as error:
            message = str(error) or type(error).__name__
            failed = Status(state="failed", step=self._step, metrics=self._metrics, message=message)
            runs.set_status(store, name, failed)
            self._tracking.end("FAILED")
            raise
        finally:
            ray.kill(self._inbox)
        status = Status(
            state="finished" if finished else "stopped",
            step=self._step,
            metrics=self._metrics | (model.metrics if model else {}),
            model=model.full_name if model else None,
        )
        runs.set_status(store, name, status)
        self._tracking.end("FINISHED" if finished else "KILLED")
        return Trained(self._run, runs.status(store, name), model)

    def _train(self) -> bool:
        """Attempt until the run is finished (true) or was asked to stop (false).

        Raises:
            TrainingError: It has failed.
        """
        watch = Watch(self._seen, self._shown, self._asked_to_stop, self._room_to_grow)
        while True:
            job = self._job()
            self._began_at = time.monotonic()
            self._prometheus.begin(job.workers)
            made, error = attempt(job, watch)
            self._prometheus.end(made.ending)
            self._step = made.step
            self._history.append(made)
            runs.record(self._store, self._run.name, self._history)
            if self._lock.lost:
                raise TrainingError(f"another process has taken the run {self._run.name} over; let it")
            decision = recovery.decide(self._history[self._begun :], self._run.config.recovery)
            if isinstance(decision, recovery.End):
                return decision.finished
            if isinstance(decision, recovery.GiveUp):
                raise _failed(self._store, self._run, decision, error) from error
            self._on_event(decision.reason)
            time.sleep(decision.wait_s)

    def _job(self) -> Job:
        """The next attempt: from the newest good checkpoint, with the workers that there is room for."""
        avoid = recovery.avoid(self._history)
        found = checkpoint.find(self._store, self._run.name, avoid.checkpoints)
        for step, why in found.damaged.items():
            self._on_event(f"the checkpoint of step {step:,} is passed over: {why}")
        workers = self._wait_for_room()
        where = f"step {found.step:,}" if found.step else "the beginning"
        if len(self._history) > self._begun:
            count = f"{workers} worker{'s' if workers > 1 else ''}"
            self._on_event(f"goes on from {where} with {count}")
        return Job(
            store=self._store,
            run=self._run.name,
            config=self._run.config,
            dataset=self._run.dataset,
            inbox=self._inbox,
            attempt=len(self._history) + 1,
            workers=workers,
            step=found.step,
            passed_over=avoid.steps,
        )

    def _wait_for_room(self) -> int:
        """The number of workers to train with, once there is room for the fewest.

        Raises:
            TrainingError: There was none for long.
        """
        scale, until = self._run.config.scale, time.monotonic() + ROOM_S
        settled = time.monotonic() + (SETTLE_S if self._history[self._begun :] else 0)
        while True:
            workers = self._room_for(0) if scale.elastic else scale.most
            # What the last attempt held is given back one by one.
            if workers == scale.most or (workers and time.monotonic() > settled):
                return workers
            if time.monotonic() > until:
                raise TrainingError(
                    f"the cluster had no room for {scale.fewest} workers for {ROOM_S:.0f} s; add nodes, or "
                    f"lower scale.workers"
                )
            time.sleep(ROOM_POLL_S)

    def _room_for(self, running: int) -> int:
        config = self._run.config
        scale = config.scale
        slots = cluster.slots(scale.cpus_per_worker, scale.gpus_per_worker, running=running > 0)
        return recovery.workers_for(scale, slots, config.global_batch // config.accumulate)

    def _room_to_grow(self, running: int) -> int:
        """The same while an attempt runs; less and less often where growing has failed."""
        tries = recovery.vain_resizes(self._history)
        if tries and time.monotonic() - self._began_at < RESIZE_AGAIN_S * 2**tries:
            return 0
        return self._room_for(running)

    def _asked_to_stop(self) -> bool:
        return self._lock.lost or runs.asked_to_stop(self._store, self._run.name)

    def _seen(self, report: Report) -> None:
        self._step = report.step
        self._metrics = report.metrics[-1] if report.metrics else self._metrics
        self._tracking.log(report)
        self._prometheus.log(report)
        self._on_report(report)

    def _shown(self, shown: Shown) -> None:
        if shown.fault and self._unseen:
            return  # said once
        if shown.fault:
            self._unseen = True
            self._on_event(
                f"no samples are shown: {shown.fault}; see samples.prompt, or give samples.every=0"
            )
            return
        self._tracking.show(shown)
        self._on_event(f"samples of step {shown.step:,}: {self._store.url}/{shown.places[0]}")


def _failed(
    store: Store, run: Run, decision: recovery.GiveUp, error: BaseException | None
) -> BaseException:
    """A worker's own error where it is one of ours; else one that says where to read on."""
    if isinstance(error, GenloomError) and str(error) == decision.message:
        return error
    return TrainingError(
        f"the run {run.name} failed: {decision.message}; its log is {store.url}/runs/{run.name}/logs"
    )


def _register(store: Store, run: Run, tracking_id: str) -> Version:
    """Register what a finished run exported, with its evaluation where the dataset has a test split."""
    from genloom_platform.evaluate.evaluate import evaluate_release

    made = release.read(store, f"models/{run.config.model_name}/{run.name}")
    metrics = evaluate_release(store, made) if run.config.evaluate else {}
    return Registry(store).register(made, metrics, tracking_id)
