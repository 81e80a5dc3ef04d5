"""Ray Tune's schedulers, made from a sweep's settings, and what they must remember of a sweep that goes on."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from genloom.errors import InvalidConfig
from genloom_platform.sweep import records, spaces
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.settings import Asha, Dimension, HyperBand, Median, Pbt
from genloom_platform.sweep.spaces import Params
from genloom_platform.sweep.trial import METRICS

TRIES = 8
"""How often values are changed until they go together."""
CHANGE = (0.8, 1.2)
"""Factors by which a number is perturbed (Jaderberg et al. 2017, 4.1)."""


def pauses(plan: Plan) -> bool:
    """Whether the scheduler pauses trials, so that more are alive than run."""
    return isinstance(plan.config.scheduler, (HyperBand, Pbt))


def scheduler_of(plan: Plan, retold: Callable[[Params], dict[str, Any]]) -> TrialScheduler:
    """The scheduler of a sweep.

    Args:
        plan: The sweep's.
        retold: What a trial is told, given its changed values.
    """
    settings = plan.config.scheduler
    judged: dict[str, Any] = {"metric": METRICS + plan.config.metrics[0], "mode": plan.config.modes[0]}
    match settings:
        case Asha():
            return _Asha(
                time_attr="step", max_t=plan.steps, grace_period=settings.grace or plan.every,
                reduction_factor=settings.factor, brackets=settings.brackets, **judged,
            )  # fmt: skip
        case HyperBand():
            looks = -(-plan.steps // plan.every)
            return HyperBandScheduler(
                time_attr="look", max_t=looks, reduction_factor=settings.factor, **judged
            )
        case Median():
            return _Median(
                time_attr="step", grace_period=settings.grace or plan.every,
                min_samples_required=settings.trials, **judged,
            )  # fmt: skip
        case Pbt():
            return PopulationBasedTraining(
                time_attr="step", perturbation_interval=plan.every, quantile_fraction=settings.quantile,
                custom_explore_fn=_Explore(plan, settings, retold), require_attrs=False, log_config=False,
                **judged,
            )  # fmt: skip
        case _:
            return FIFOScheduler()


class _Asha(AsyncHyperBandScheduler):
    """ASHA that knows what trials came to before the sweep was cut off."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.known: dict[str, list[dict[str, Any]]] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial joins; the rungs that it has passed are filled."""
        super().on_trial_add(tune_controller, trial)
        for result in self.known.pop(str(trial), ()):
            self.on_trial_result(tune_controller, trial, result)


class _Median(MedianStoppingRule):
    """The rule, with the same knowledge."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.known: dict[str, list[dict[str, Any]]] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial joins; what it came to is taken down, and nothing decided of it."""
        super().on_trial_add(tune_controller, trial)
        for result in self.known.pop(str(trial), ()):
            self.on_trial_complete(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial has ended; one that failed may have come to nothing."""
        if self.metric in result:
            super().on_trial_complete(tune_controller, trial, result)


@dataclass(frozen=True)
class _Past:
    """A trial that has ended, as far as schedulers look at it."""

    trial_id: str

    def __str__(self) -> str:
        return self.trial_id


def remember(scheduler: TrialScheduler, trials: Sequence[records.Trial]) -> None:
    """Tell a scheduler of the trials before the sweep was cut off, in the order in which they ended.

    HyperBand and PBT begin anew with those that have not ended.
    """
    if not isinstance(scheduler, (_Asha, _Median)):
        return
    metric: Any = scheduler.metric
    for trial in sorted(trials, key=lambda trial: trial.place or len(trials)):
        results = [
            {"step": look.step, **{METRICS + name: value for name, value in look.metrics.items()}}
            for look in trial.looks
        ]
        scheduler.known[trial.run] = [result for result in results if metric in result]
        if trial.ended:
            scheduler.on_trial_add(None, _Past(trial.run))


class _Explore:
    """Changes the values of a trial that goes on from another's checkpoint.

    Ray's own way changes every key without regard to bounds, steps and conditions.
    """

    def __init__(self, plan: Plan, settings: Pbt, retold: Callable[[Params], dict[str, Any]]) -> None:
        self._space, self._keys, self._settings = plan.config.space, plan.perturbed(), settings
        self._retold = retold
        self._chance = spaces.Chance(plan.config.seed)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        params: Params = config["trial"]["params"]
        for _ in range(TRIES):
            with suppress(InvalidConfig):
                return {**config, "trial": self._retold(self._changed(params))}
        return config  # whatever is changed does not go together; the trial goes on with the other's values

    def _changed(self, before: Params) -> Params:
        params = dict(before)
        for key in spaces.ordered(self._space):
            dimension = self._space[key]
            if not spaces.applies(dimension, params):
                params.pop(key, None)
            elif key not in params or (
                key in self._keys and self._chance.happens(self._settings.resample)
            ):
                params[key] = spaces.value_of(key, dimension, self._chance)
            elif key in self._keys:
                params[key] = self._beside(key, dimension, params[key])
        return params

    def _beside(self, key: str, dimension: Dimension, value: Any) -> Any:
        if dimension.choice is not None:
            at = dimension.choice.index(value) + self._chance.one_of(key, (-1, 1))
            return dimension.choice[min(max(at, 0), len(dimension.choice) - 1)]
        low, high = dimension.bounds
        factor = self._chance.one_of(key, CHANGE)
        if not dimension.int_range:
            return min(max(value * factor, low), high)
        step = dimension.step
        by = max(1, round(abs(value * factor - value) / step)) * (1 if factor > 1 else -1)
        return min(max(value + by * step, int(low)), dimension.last)
