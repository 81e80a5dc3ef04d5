"""A sweep, from its plan to its registered models. The next files to read are `watch.py` and `trial.py`."""

import os
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from genloom.errors import GenloomError, InvalidConfig, RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store, identifier
from genloom_platform.sweep import finish, ranking, records, report, room, schedulers
from genloom_platform.sweep import plan as plans
from genloom_platform.sweep.journal import Journal
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.records import Sweep, SweepStatus, Trial
from genloom_platform.sweep.spaces import Params
from genloom_platform.sweep.studies import Learner
from genloom_platform.sweep.trial import Common, SweepTrial, TrialConfig
from genloom_platform.sweep.watch import Watch
from genloom_platform.train import checkpoint
from genloom_platform.train.lock import Lock

POLL_S = 0.2
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a missing metric is told by us, with those that are reported
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


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
        _run_tune(plan, made.name, watch, _told(plan, watch, learner), concurrent, lock)
    if watch.fault:
        raise watch.fault
    return watch


def _told(plan: Plan, watch: Watch, learner: Learner | None) -> Iterator[dict[str, Any]]:
    """What each trial is told that has not ended: first those that had begun, then the others."""
    begun = [trial for trial in watch.trials.values() if not trial.ended]
    ended = {trial.number for trial in watch.trials.values()}
    for trial in begun:
        yield _as_told(plan, trial.number, trial.params)
    for number in range(plan.trials):
        if number in ended:
            continue
        params = learner.ask(number) if learner else plan.params(number)
        try:
            told = _as_told(plan, number, params)
        except InvalidConfig as error:
            watch.refuse(number, params, "; ".join(map(str, error.problems)))
        else:
            yield told


def _as_told(plan: Plan, number: int, params: Params) -> dict[str, Any]:
    run = plan.run(params)
    dataset = manifests.load(plan.store, run.data).full_name
    told = TrialConfig(number=number, params=params, run=run, dataset=dataset)
    return told.model_dump(mode="json")


class _Proposals(Searcher):
    """Gives Tune one trial after the other, as a learner proposes them."""

    def __init__(self, told: Iterator[dict[str, Any]]) -> None:
        super().__init__()
        self._told = told

    def __getstate__(self) -> dict[str, Any]:
        """As for the watch."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial."""
        told = next(self._told, None)
        finished: Any = Searcher.FINISHED  # a word, where the contract asks for values
        return {"trial": told} if told else finished

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The watch tells the learner."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing beside the records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _End(tune.Stopper):
    """Ends all trials when the watch says so."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __call__(self, trial_id: str, result: Any) -> bool:
        """Single trials end by the scheduler."""
        return False

    def stop_all(self) -> bool:
        """Whether all end."""
        return self._watch.over


def _run_tune(
    plan: Plan, name: str, watch: Watch, told: Iterator[dict[str, Any]], concurrent: int, lock: Lock
) -> None:
    """Let Tune schedule the trials, in a thread: Ctrl-C reaches this one."""
    learns = plan.config.search == "optuna"
    space = {} if learns else {"trial": tune.grid_search(list(told))}
    if not learns and not space["trial"]["grid_search"]:
        return
    left = plan.trials - sum(trial.ended for trial in watch.trials.values())
    scheduler = schedulers.scheduler_of(plan, lambda params: _as_told(plan, -1, params))
    schedulers.remember(scheduler, list(watch.trials.values()))
    common = Common(plan.store, plan.every, plan.config.metrics)
    trainable = tune.with_resources(
        tune.with_parameters(SweepTrial, common=common), room.request(plan, concurrent)
    )

    def run_name(trial: Any) -> str:
        return records.run_name(name, trial.config["trial"]["number"])

    with tempfile.TemporaryDirectory(prefix="genloom-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=_Proposals(told) if learns else None,
                scheduler=scheduler,
                num_samples=max(1, left) if learns else 1,
                max_concurrent_trials=None if schedulers.pauses(plan) else concurrent,
                reuse_actors=True,
                trial_name_creator=run_name,
                trial_dirname_creator=run_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                stop=_End(watch),
                callbacks=[watch],
                failure_config=tune.FailureConfig(max_failures=plan.config.retries),
                verbose=0,
                storage_path=scratch,  # Tune's own state, which is never read again
            ),
        )
        _fit(tuner, watch, lock)


def _fit(tuner: tune.Tuner, watch: Watch, lock: Lock) -> None:
    failures: list[BaseException] = []

    def fit() -> None:
        try:
            tuner.fit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    with _environment(QUIET):
        thread.start()
        while thread.is_alive():
            try:
                thread.join(POLL_S)
                if lock.lost and not watch.fault:
                    watch.fault = GenloomError("another process has taken the sweep over; let it")
            except KeyboardInterrupt:
                if watch.stopped:
                    raise
                watch.stopped = "stopped by Ctrl-C"
    if failures and not watch.over:
        raise GenloomError(f"Ray Tune failed: {failures[0]}") from failures[0]


@contextmanager
def _environment(values: Mapping[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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
