"""Optuna's view of a sweep: a study made from what is recorded, that proposes values and weighs parameters."""

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genloom_platform.sweep import ranking, spaces
from genloom_platform.sweep.records import Trial
from genloom_platform.sweep.settings import Dimension, SweepConfig
from genloom_platform.sweep.spaces import Params

if TYPE_CHECKING:
    import optuna

START_TRIALS = 10
"""Trials at random before TPE learns from them (Bergstra et al. 2011), at most a third of all."""


class Learner:
    """Proposes the values of the next trial from those that have ended."""

    def __init__(self, config: SweepConfig, trials: Sequence[Trial], count: int) -> None:
        import optuna

        self._config = config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "group" counts as experimental; conditions need it
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=min(START_TRIALS, max(2, count // 3)),
                multivariate=True,
                group=True,
                seed=config.seed + len(trials),
            )
        self._study = study_of(config, [t for t in trials if t.ended], sampler)
        self._asked: dict[int, Any] = {}

    def ask(self, number: int) -> Params:
        """Values for a trial."""
        trial = self._study.ask()
        self._asked[number] = trial
        return spaces.drawn(self._config.space, _Proposal(trial))

    def tell(self, trial: Trial) -> None:
        """A trial has ended."""
        import optuna

        asked = self._asked.pop(trial.number, None)
        frozen = frozen_of(trial, self._config)
        if asked is None:
            self._study.add_trial(frozen)
            return
        for step, value in frozen.intermediate_values.items():
            asked.report(value, step)
        if frozen.state == optuna.trial.TrialState.COMPLETE:
            self._study.tell(asked, frozen.values)
        else:
            self._study.tell(asked, state=frozen.state)


class _Proposal:
    """Draws what Optuna proposes."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def number(self, key: str, low: float, high: float, log: bool) -> float:
        return self._trial.suggest_float(key, low, high, log=log)

    def whole(self, key: str, low: int, high: int, step: int) -> int:
        return self._trial.suggest_int(key, low, high, step=step)

    def one_of(self, key: str, choice: tuple[Any, ...]) -> Any:
        labels = [label(value) for value in choice]
        return choice[labels.index(self._trial.suggest_categorical(key, labels))]


def study_of(config: SweepConfig, trials: Sequence[Trial], sampler: Any = None) -> "optuna.Study":
    """A study that holds trials which have ended."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions: list[Any] = ["minimize" if mode == "min" else "maximize" for mode in config.modes]
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.add_trials([frozen_of(trial, config) for trial in trials])
    return study


def frozen_of(trial: Trial, config: SweepConfig) -> "optuna.trial.FrozenTrial":
    """A trial as Optuna keeps it: complete, pruned where it was stopped early, or failed."""
    import optuna

    states = optuna.trial.TrialState
    params = {key: value for key, value in trial.params.items() if key in config.space}
    known = ranking.costs(trial, config) is not None
    state = {"finished": states.COMPLETE, "stopped": states.PRUNED}.get(trial.state, states.FAIL)
    state = state if known else states.FAIL
    first = config.metrics[0]
    looks = {look.step: look.metrics[first] for look in trial.looks if first in look.metrics}
    return optuna.trial.create_trial(
        state=state,
        values=[trial.metrics[metric] for metric in config.metrics]
        if state == states.COMPLETE
        else None,
        params={
            key: label(value) if config.space[key].choice is not None else value
            for key, value in params.items()
        },
        distributions={key: distribution(config.space[key]) for key in params},
        intermediate_values=looks if len(config.metrics) == 1 else {},
    )


def distribution(dimension: Dimension) -> Any:
    """A dimension as Optuna knows it."""
    import optuna

    kinds = optuna.distributions
    if dimension.choice is not None:
        return kinds.CategoricalDistribution([label(value) for value in dimension.choice])
    if dimension.int_range:
        return kinds.IntDistribution(dimension.int_range[0], dimension.last, step=dimension.step)
    low, high = dimension.bounds
    return kinds.FloatDistribution(low, high, log=dimension.log_range is not None)


def label(value: Any) -> Any:
    """A choice as Optuna takes it: numbers and text as they are, groups as JSON."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)


def importance(config: SweepConfig, trials: Sequence[Trial]) -> dict[str, float]:
    """How much of the first metric's variance each key explains, by fANOVA (Hutter et al. 2014).

    Over the trials that came to something, those that were stopped early with what they came to; of the keys
    that all of them were given. Empty where there are too few trials, or they came to the same.
    """
    import optuna

    known = [
        trial.model_copy(update={"state": "finished"})
        for trial in trials
        if trial.ended and ranking.costs(trial, config) is not None
    ]
    keys = [
        key
        for key in config.space
        if all(key in trial.params for trial in known)
        and len({json.dumps(trial.params[key]) for trial in known}) > 1
    ]
    values = {trial.metrics[config.metrics[0]] for trial in known}
    if len(known) < 4 or not keys or len(values) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    target = None if len(config.metrics) == 1 else lambda trial: trial.values[0]
    return optuna.importance.get_param_importances(
        study_of(config, known), evaluator=evaluator, params=keys, target=target
    )
