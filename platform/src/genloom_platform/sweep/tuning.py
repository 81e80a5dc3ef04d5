"""Ray Tune at work: what it is given, and how it is ended. The next file to read is `trial.py`."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from genloom.errors import GenloomError, InvalidConfig
from genloom_platform import environment
from genloom_platform.data import manifest as manifests
from genloom_platform.profiles import is_secret
from genloom_platform.sweep import records, room, schedulers
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.spaces import Params
from genloom_platform.sweep.studies import Learner
from genloom_platform.sweep.trial import Common, SweepTrial, TrialConfig
from genloom_platform.sweep.watch import Watch
from genloom_platform.train.background import interruptions

POLL_S = 0.2
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a missing metric is told by us, with those that are reported
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def keep_secrets() -> None:
    """Let Ray Tune give trials none of this process's secrets.

    It would write the store's keys into their runtime environment, which each machine's log shows. Workers have
    their machine's own, and on this machine they inherit them.
    """
    told = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in told if not is_secret(name)}


def run(
    plan: Plan,
    name: str,
    watch: Watch,
    learner: Learner | None,
    concurrent: int,
    lost: Callable[[], bool],
) -> None:
    """Run all trials that have not ended.

    Args:
        plan: The sweep's.
        name: Its name.
        watch: What keeps its records, and says when it is over.
        learner: What proposes values; None where they are known beforehand.
        concurrent: How many trials run at a time.
        lost: Whether another process has taken the sweep over.

    Raises:
        GenloomError: Tune itself failed.
    """
    told = _told(plan, watch, learner)
    learns = plan.config.search == "optuna"
    space = {} if learns else {"trial": tune.grid_search(list(told))}
    if not learns and not space["trial"]["grid_search"]:
        return
    left = plan.trials - sum(trial.ended for trial in watch.trials.values())
    scheduler = schedulers.scheduler_of(plan, lambda params: _as_told(plan, -1, params))
    schedulers.remember(scheduler, list(watch.trials.values()))
    common = Common(plan.store, plan.every, plan.config.metrics, plan.config.retries)
    keep_secrets()
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
                # What has failed has nothing to save, and what has ended has saved it.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
                storage_path=scratch,  # Tune's own state, which is never read again
            ),
        )
        _fit(tuner, watch, lost)


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


def _fit(tuner: tune.Tuner, watch: Watch, lost: Callable[[], bool]) -> None:
    """Let Tune schedule the trials, in a thread: Ctrl-C reaches this one."""
    failures: list[BaseException] = []
    over = threading.Event()

    def fit() -> None:
        try:
            tuner.fit()
        except BaseException as error:
            failures.append(error)
        finally:
            over.set()

    with environment.holding(QUIET), interruptions() as pressed:
        threading.Thread(target=fit, daemon=True).start()
        while not over.wait(POLL_S):
            if lost() and not watch.fault:
                watch.fault = GenloomError("another process has taken the sweep over; let it")
            if pressed.is_set() and not watch.stopped:
                watch.interrupt()
    if failures and not watch.over:
        raise GenloomError(f"Ray Tune failed: {failures[0]}") from failures[0]
