"""The watch over a sweep's trials: what Ray Tune tells of them becomes records, MLflow runs and decisions.

Tune calls it on the thread that schedules, so whatever takes time is left to the journal.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from ray import tune

from genloom import registry as plugins
from genloom.errors import RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.jobs import origin
from genloom_platform.models import start as starts
from genloom_platform.models.registry import Registry
from genloom_platform.observe.tracking import Tracking
from genloom_platform.sweep import ranking, records
from genloom_platform.sweep.journal import Journal
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.records import Change, Look, Sweep, Trial
from genloom_platform.sweep.settings import Pbt
from genloom_platform.sweep.studies import Learner
from genloom_platform.sweep.trial import METRICS, TrialConfig
from genloom_platform.train import checkpoint, runs
from genloom_platform.train.diagnosis import explain
from genloom_platform.train.runs import Run, Status

ENDED = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
"""A trial's state as MLflow knows it; that a trial was stopped early is no fault of it."""


class Watch(tune.Callback):
    """Keeps the records of a sweep while it runs."""

    def __init__(
        self,
        plan: Plan,
        sweep: Sweep,
        registry: Registry,
        journal: Journal,
        known: Iterable[Trial],
        learner: Learner | None,
        on_change: Callable[["Watch"], None],
        on_event: Callable[[str], None],
    ) -> None:
        self._plan, self._sweep, self._registry, self._journal = plan, sweep, registry, journal
        self._store, self._learner = plan.store, learner
        self._on_change, self._on_event = on_change, on_event
        self.trials: dict[str, Trial] = {trial.run: trial for trial in known}
        """By run; values are replaced, never changed."""
        self.begun_at = time.monotonic()
        self.fault: Exception | None = None
        """Why the sweep cannot go on."""
        self.stopped = ""
        """Why it was asked to end."""
        self._trackings: dict[str, Tracking] = {}
        self._pruned: set[str] = set()
        self._lost: set[str] = set()
        """Trials whose training has failed for good."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps all that it is given in its own state, from which nothing is ever read."""
        return {}

    @property
    def over(self) -> bool:
        """Whether no trial is to go on."""
        return bool(self.fault or self.stopped or self._journal.failure)

    def interrupt(self) -> None:
        """Someone has pressed Ctrl-C."""
        self.stopped = "stopped by Ctrl-C"
        self._on_event("ends when its trials have come to a look; Ctrl-C again ends it at once")

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial's process has begun it, or goes on with it."""
        name, told = str(trial), TrialConfig.model_validate(trial.config["trial"])
        known = self.trials.get(name)
        if known is None:
            known = Trial(number=told.number, run=name, params=told.params, first_params=told.params)
        if name not in self._trackings:
            self._trackings[name] = self._record_run(name, told)
        self._put(known)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial was looked at."""
        name = str(trial)
        known = self._tried(self.trials[name], result.pop("failures"), final=result["failed"])
        if result["failed"]:
            self._lost.add(name)
            self._put(known)
            return
        metrics = {
            key.removeprefix(METRICS): value
            for key, value in result.items()
            if key.startswith(METRICS) and key.removeprefix(METRICS) not in result["missing"]
        }
        if result["missing"] and not self.fault:
            self.fault = RequestError(_missing(result["missing"], metrics))
        spent = known.looks[-1].seconds if known.looks else 0.0
        look = Look(step=result["step"], metrics=metrics, seconds=spent + result["time_this_iter_s"])
        known = self._changed(known, result.pop("origin"), result.pop("params")).with_look(look)
        for report in result.pop("reports"):  # nothing that Tune should keep
            self._journal.write(self._trackings[name].log, report)
        self._put(known)

    def _tried(self, known: Trial, failures: list[str], *, final: bool) -> Trial:
        """With the failures of its training since the look before; the last may have been the end of it."""
        for why in failures[: len(failures) - final]:
            self._on_event(f"trial {known.number} is tried again: {why}")
        if final:
            self._on_event(f"trial {known.number} failed: {failures[-1]}")
        tried = known.failures + len(failures) - final
        message = failures[-1] if failures else known.message
        return known.model_copy(update={"failures": tried, "message": message})

    def _changed(self, known: Trial, origin: dict[str, Any] | None, params: dict[str, Any]) -> Trial:
        """With the change by which the trial went on from another, where it is new.

        Both are what the trial's process was told: the scheduler has seen this look before, and may have
        changed the values that Tune knows already.
        """
        if origin is None:
            return known
        change = Change(step=origin["step"], origin=origin["run"], params=params)
        if known.changes and known.changes[-1] == change:
            return known
        self._on_event(
            f"trial {known.number} goes on from {change.origin} at step {change.step:,} with "
            f"{_changes(known.params, params) or 'the same values'}"
        )
        looks = tuple(look for look in known.looks if look.step <= change.step)
        return known.model_copy(
            update={"params": params, "changes": (*known.changes, change), "looks": looks}
        )

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial has trained in full, or was stopped early."""
        known = self.trials[str(trial)]
        if known.run in self._lost:
            self._end(known, "failed", known.message)
        else:
            self._end(known, "finished" if known.step >= self._plan.steps else "stopped", "")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial has failed, and is not tried again."""
        known = self.trials.get(str(trial))
        if known is None:  # its process never came up
            told = TrialConfig.model_validate(trial.config["trial"])
            known = Trial(
                number=told.number, run=str(trial), params=told.params, first_params=told.params
            )
        why = _why(trial)
        self._on_event(f"trial {known.number} failed: {why}")
        self._end(known, "failed", why)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial has failed, and is tried again."""
        known = self.trials.get(str(trial))
        if known:
            why = _why(trial)
            self._on_event(f"trial {known.number} is tried again: {why}")
            self._put(known.model_copy(update={"failures": known.failures + 1, "message": why}))

    def refuse(self, number: int, params: dict[str, Any], why: str) -> None:
        """A trial whose values do not go together: failed before it began."""
        name = records.run_name(self._sweep.name, number)
        known = Trial(number=number, run=name, params=params, first_params=params)
        self._on_event(f"trial {number} cannot run: {why}")
        self._end(known, "failed", why)

    def _end(self, known: Trial, state: str, message: str) -> None:
        place = 1 + sum(trial.ended for trial in self.trials.values())
        known = known.model_copy(update={"state": state, "message": message, "place": place})
        tracking = self._trackings.pop(known.run, None)
        if tracking:  # written before the trial's record: one that has ended there is not touched again
            status: Any = {
                "state": state,
                "step": known.step,
                "metrics": known.metrics,
                "message": message,
            }
            self._journal.write(runs.set_status, self._store, known.run, Status(**status))
            self._journal.write(tracking.end, ENDED[state])
        self._put(known)
        if self._learner:
            self._learner.tell(known)
        self._prune()

    def _prune(self) -> None:
        """Delete the checkpoints of trials that ended and are not among the best.

        In population based training one may yet go on from them, until all have ended.
        """
        if isinstance(self._plan.config.scheduler, Pbt) and not all(
            t.ended for t in self.trials.values()
        ):
            return
        kept = {trial.run for trial in ranking.best(list(self.trials.values()), self._plan.config)}
        for trial in self.trials.values():
            if trial.ended and trial.run not in kept | self._pruned:
                self._pruned.add(trial.run)
                self._journal.write(self._store.delete, checkpoint.folder(trial.run))

    def _put(self, trial: Trial) -> None:
        self.trials[trial.run] = trial
        self._journal.write(self._record, trial)
        self._on_change(self)

    def _record(self, trial: Trial) -> None:
        if self.trials[trial.run] is trial:  # else a newer one is already waiting to be written
            records.record(self._store, self._sweep.name, trial)

    def _record_run(self, name: str, told: TrialConfig) -> Tracking:
        """Record the run that a trial is, once; and open, or go on with, its run in MLflow."""
        if self._store.exists(f"runs/{name}/run.json"):
            return Tracking(self._registry, runs.find(self._store, name).tracking_id)
        tracking = Tracking(self._registry)
        manifest = manifests.load(self._store, told.dataset)
        plugin = plugins.find(told.run.generator_name)
        run = Run(
            name=name,
            config=told.run,
            dataset=manifest.full_name,
            package=plugin.package,
            package_version=plugin.version,
            package_digest=origin.digest_of(plugin.package),
            job=origin.job(),
            tracking_id=tracking.start(name, told.run, manifest, self._sweep.tracking_id),
            created_at=checkpoint.now(),
            start=starts.plan(self._store, told.run),
            sweep=self._sweep.name,
        )
        runs.create(self._store, run)
        return tracking


def _why(trial: Any) -> str:
    error = trial.get_pickled_error() or trial.get_error()
    return explain(error, {})[1] if isinstance(error, BaseException) else "its process ended"


def _missing(missing: list[str], reported: Iterable[str]) -> str:
    names = ", ".join(sorted(reported)) or "none"
    return f"no trial reports {', '.join(map(repr, missing))}; give one of those that are reported: {names}"


def _changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {_short(before.get(key))} → {_short(value)}"
        for key, value in after.items()
        if before.get(key) != value
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
