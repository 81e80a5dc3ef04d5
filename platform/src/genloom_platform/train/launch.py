"""Launch: the driver's side of a run. The next file to read is `course.py`, then `attempt.py`.

A run is checked whole before anything is written; then it is seen through its course, until the model is
registered.
"""

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass

from genloom import registry as plugins
from genloom.errors import RequestError, TrainingError
from genloom_platform import cluster
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.doctor import marks
from genloom_platform.jobs import origin
from genloom_platform.models import release
from genloom_platform.models.publish import publish
from genloom_platform.models.registry import Registry, Version
from genloom_platform.models.start import Start, plan
from genloom_platform.observe.tracking import Tracking
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, crowding, lock, recovery, runs
from genloom_platform.train.course import Course
from genloom_platform.train.lock import Lock
from genloom_platform.train.progress import Report
from genloom_platform.train.runs import Run, Status


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
        RequestError: The dataset does not exist or fit, the name is taken, the cluster is too small, a
            finetune's patterns fit nothing, or this machine too small where there is no cluster.
        DataError: A shard is damaged.
        StoreError: The store cannot be written, or one of the cluster's machines does not reach it.
        TrainingError: The training failed.
    """
    manifest = manifests.load(store, config.data)
    manifest.facts_for(config.trainable())
    start = plan(store, config)
    name = runs.claim(store, name) if name else runs.new_name(store, config.generator_name)
    store.check_writable()
    shards.require(store, manifest)
    _look_at_this_machine(store, config, manifest.full_name, start, on_event)
    _connect(config)
    with marks.others_look(store):
        tracking = Tracking(Registry(store))
    plugin = plugins.find(config.generator_name)
    run = Run(
        name=name,
        config=config,
        dataset=manifest.full_name,
        package=plugin.package,
        package_version=plugin.version,
        package_digest=origin.digest_of(plugin.package),
        job=origin.job(),
        tracking_id=tracking.start(name, config, manifest),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        start=start,
    )
    with Lock(store, name) as held:
        runs.claim(
            store, name
        )  # once more: connecting takes long, and another may have taken it meanwhile
        runs.create(store, run)
        on_start(run, 0)
        course = Course(store, run, tracking, lambda: held.lost, on_report, on_event)
        return _see_through(course, tracking)


def resume(
    store: Store,
    name: str,
    *,
    on_start: Callable[[Run, int], None] = lambda run, step: None,
    on_report: Callable[[Report], None] = lambda report: None,
    on_event: Callable[[str], None] = lambda message: None,
    patience_s: float | None = None,
) -> Trained:
    """Go on with a run from its newest checkpoint; arguments and errors as for `train`.

    `patience_s` is how long the cluster's machines may take to come, as for `cluster.require`.
    """
    run = runs.find(store, name)
    _require_unfinished(store, run)
    _look_at_this_machine(store, run.config, run.dataset, run.start, on_event)
    _connect(run.config, patience_s)
    with Lock(store, name) as held:
        _require_unfinished(
            store, run
        )  # connecting takes long, and whoever trained it may have ended meanwhile
        with marks.others_look(store):
            tracking = Tracking(Registry(store), run.tracking_id)
        avoid = recovery.avoid(runs.history(store, name))
        found = checkpoint.find(store, name, avoid.checkpoints)
        store.remove(f"runs/{name}/stop")
        runs.set_status(store, name, Status(state="running", step=found.step))
        on_start(run, found.step)
        course = Course(store, run, tracking, lambda: held.lost, on_report, on_event)
        course.goes_on_from(found)
        return _see_through(course, tracking)


def _require_unfinished(store: Store, run: Run) -> None:
    """Raise RequestError where nobody is to go on with a run, or its sweep does."""
    if runs.status(store, run.name).state == "finished":
        raise RequestError(f"the run {run.name} is finished; start another to train more")
    if run.sweep and lock.holder(store, run.sweep, "sweep"):
        raise RequestError(
            f"the run {run.name} is a trial of the sweep {run.sweep}, which goes on with it"
        )


def _look_at_this_machine(
    store: Store,
    config: RunConfig,
    dataset: str,
    start: Start | None,
    on_event: Callable[[str], None],
) -> None:
    """Say that a run's workers must share the cores here, where they must; refuse those that have no room."""
    crowded = crowding.warning(config, os.cpu_count() or 1) if cluster.starts_here() else ""
    if crowded:
        on_event(crowded)
        manifest = manifests.load(store, dataset)
        crowding.require_memory(config, manifest, start, cluster.machine_bytes())


def _connect(config: RunConfig, patience_s: float | None = None) -> None:
    scale = config.scale
    cluster.connect(scale.most * scale.cpus_per_worker)
    cpus, gpus = scale.fewest * scale.cpus_per_worker, scale.fewest * scale.gpus_per_worker
    cluster.require(cpus, gpus, patience_s)
    cluster.require_node(scale.cpus_per_worker, scale.gpus_per_worker)


def _see_through(course: Course, tracking: Tracking) -> Trained:
    """Train, evaluate, register; whatever happens, the run's status says it."""
    store, run = course.store, course.run
    try:
        finished = course.train()
        model = register(store, run, tracking.run_id) if finished else None
    except BaseException as error:
        if _is_anothers(course):
            raise  # the records are the other process's
        asked = isinstance(error, KeyboardInterrupt)  # between two attempts, or a second time
        message = "" if asked else str(error) or type(error).__name__
        state = "stopped" if asked else "failed"
        ended = Status(state=state, step=course.step, metrics=course.metrics, message=message)
        runs.set_status(store, run.name, ended)
        tracking.end("KILLED" if asked else "FAILED")
        raise
    if _is_anothers(course):
        raise TrainingError(f"another process has taken the run {run.name} over; let it")
    status = Status(
        state="finished" if finished else "stopped",
        step=course.step,
        metrics=course.metrics | (model.metrics if model else {}),
        model=model.full_name if model else None,
    )
    runs.set_status(store, run.name, status)
    tracking.end("FINISHED" if finished else "KILLED")
    return Trained(run, runs.status(store, run.name), model)


def _is_anothers(course: Course) -> bool:
    """Whether another process writes the run now, or has finished it."""
    return course.lost or runs.status(course.store, course.run.name).state == "finished"


def register(store: Store, run: Run, tracking_id: str) -> Version:
    """Register what a finished run exported, with its evaluation where the dataset has a test split."""
    made = release.read(store, f"models/{run.config.model_name}/{run.name}")
    return publish(store, made, tracking_id, evaluated=run.config.evaluate)
