"""A sweep, from its plan to its registered models. The next files to read are `tuning.py` and `watch.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from genloom.errors import RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.doctor import marks
from genloom_platform.models.registry import Registry
from genloom_platform.names import identifier
from genloom_platform.store import Store
from genloom_platform.sweep import finish, ranking, records, report, room, tuning
from genloom_platform.sweep import plan as plans
from genloom_platform.sweep.journal import Journal
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.records import Sweep, SweepStatus, Trial
from genloom_platform.sweep.studies import Learner
from genloom_platform.sweep.watch import Watch
from genloom_platform.train import checkpoint
from genloom_platform.train.lock import Lock


@dataclass(frozen=True)
class Swept:
    """How a sweep ended."""

    sweep: Sweep
    status: SweepStatus
    trials: list[Trial]
    """By number."""

    @property
    def best(self) -> list[Trial]:
        """The trials that were registered, the best first."""
        return [trial for trial in ranking.ranked(self.trials, self.sweep.config) if trial.model]


def sweep(
    store: Store,
    values: Mapping[str, Any],
    name: str,
    *,
    on_start: Callable[[Sweep, Plan, list[Trial]], None] = lambda sweep, plan, known: None,
    on_change: Callable[[Watch], None] = lambda watch: None,
    on_event: Callable[[str], None] = lambda message: None,
) -> Swept:
    """Start a sweep and see it through; or go on with one of that name that was cut off.

    Args:
        store: Where the dataset, the trials and the models live.
        values: The sweep, as its YAML file has it.
        name: The sweep's name.
        on_start: Called with the sweep, its plan, and the trials that are known from before.
        on_change: Called when a trial has come further.
        on_event: Called with a sentence when something happens: a failure, a trial that goes on from another.

    Raises:
        InvalidConfig: All that is wrong with the sweep.
        RequestError: The dataset does not exist, another sweep has that name, the cluster is too small, or
            no trial reports the metric.
        GenloomError: It cannot go on, as when the store is away.
    """
    plan = plans.resolve(values, store)
    identifier("sweep", name)
    manifest = manifests.load(store, plan.base.data)
    _check_name(store, name, plan)
    store.check_writable()
    shards.require(store, manifest)
    concurrent = room.connect(plan)
    with marks.others_look(store):
        registry = Registry(store)
    with Lock(store, name, "sweep") as lock:
        found = records.find(store, name) if records.exists(store, name) else None
        made = found or _new(store, name, plan, registry)
        known = records.trials(store, name)
        records.set_status(store, name, SweepStatus(state="running"))
        on_start(made, plan, known)
        try:
            watch = _search(plan, made, registry, known, concurrent, lock, on_change, on_event)
            trials = sorted(watch.trials.values(), key=lambda trial: trial.number)
            if not watch.stopped:
                trials = finish.register_best(plan, made, trials, on_event)
        except BaseException as error:
            state = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            message = str(error) or type(error).__name__
            records.set_status(store, name, SweepStatus(state=state, message=message))
            finish.end_tracking(registry, made, [], "FAILED")
            raise
        return _ended(store, plan, made, registry, trials, watch.stopped)


def _check_name(store: Store, name: str, plan: Plan) -> None:
    if not records.exists(store, name):
        return
    before = records.find(store, name).config.model_dump(mode="json")
    now = plan.config.model_dump(mode="json")
    differ = [key for key in now if now[key] != before[key]]
    if differ:
        raise RequestError(
            f"there is a sweep {name!r} with another {', '.join(differ)}; give another --name, or go on with "
            f"it as it was"
        )
    if records.status(store, name).state == "finished":
        raise RequestError(
            f"the sweep {name!r} is finished (genloom sweeps show {name}); give another --name"
        )


def _new(store: Store, name: str, plan: Plan, registry: Registry) -> Sweep:
    made = Sweep(
        name=name,
        config=plan.config,
        tracking_id=finish.start_tracking(registry, name, plan.config),
        created_at=checkpoint.now(),
    )
    records.create(store, made)
    return made


def _search(
    plan: Plan,
    made: Sweep,
    registry: Registry,
    known: list[Trial],
    concurrent: int,
    lock: Lock,
    on_change: Callable[[Watch], None],
    on_event: Callable[[str], None],
) -> Watch:
    """Run all trials that have not ended; the records of all."""
    learner = Learner(plan.config, known, plan.trials) if plan.config.search == "optuna" else None
    with Journal() as journal:
        watch = Watch(plan, made, registry, journal, known, learner, on_change, on_event)
        tuning.run(plan, made.name, watch, learner, concurrent, lambda: lock.lost)
    if watch.fault:
        raise watch.fault
    return watch


def _ended(
    store: Store, plan: Plan, made: Sweep, registry: Registry, trials: list[Trial], stopped: str
) -> Swept:
    """Say how the sweep ended, in its status, its report and MLflow."""
    best = [trial.model for trial in ranking.ranked(trials, plan.config) if trial.model]
    status = SweepStatus(state="stopped" if stopped else "finished", best=tuple(best), message=stopped)
    report.write(store, made, trials)
    records.set_status(store, made.name, status)
    finish.end_tracking(registry, made, trials, "KILLED" if stopped else "FINISHED")
    return Swept(made, records.status(store, made.name), trials)
