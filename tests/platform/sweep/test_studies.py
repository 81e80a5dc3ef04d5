"""Optuna learns from the trials that ended, also of a sweep that goes on; and what matters is found."""

import pytest

from genloom_platform.sweep import studies
from genloom_platform.sweep.records import Look, Trial
from genloom_platform.sweep.settings import SweepConfig

SPACE = {
    "x": {"range": [-5, 5]},
    "idle": {"range": [0, 1]},
    "kind": {"choice": ["near", "far", {"own": 1}]},
    "y": {"log_range": [1e-3, 1], "when": {"kind": "far"}},
}


def config(metric="loss", mode="min"):
    return SweepConfig.model_validate(
        {"run": {}, "space": SPACE, "metric": metric, "mode": mode, "trials": 40, "search": "optuna"}
    )


def done(number, params, state="finished"):
    """A trial whose loss depends on x most, on the kind less, and not on what is idle."""
    loss = (params["x"] - 2) ** 2 + (0 if params["kind"] == "near" else 3)
    looks = (Look(step=10, metrics={"loss": loss, "size": abs(params["x"])}, seconds=1),)
    return Trial(
        number=number, run=f"t-{number}", params=params, first_params=params, state=state, looks=looks,
        place=number + 1,
    )  # fmt: skip


def run(learner, numbers):
    trials = []
    for number in numbers:
        params = learner.ask(number)
        assert ("y" in params) == (params["kind"] == "far")
        trials.append(done(number, params, "stopped" if number % 3 == 0 else "finished"))
        learner.tell(trials[-1])
    return trials


@pytest.fixture(scope="module")
def trials():
    first = run(studies.Learner(config(), [], 40), range(20))
    return first + run(studies.Learner(config(), first, 40), range(20, 40))


def mean(trials):
    return sum(trial.metrics["loss"] for trial in trials) / len(trials)


def test_the_learner_gets_better_and_goes_on_from_what_is_recorded(trials):
    assert mean(trials[20:]) < mean(trials[:10]) / 2
    assert mean(trials[20:25]) < mean(trials[:10])  # it did not begin anew


def test_the_same_values_are_not_proposed_again_after_a_restart(trials):
    assert len({str(trial.params) for trial in trials}) == 40


def test_a_trial_that_failed_is_no_example(trials):
    learner = studies.Learner(config(), trials, 60)
    params = learner.ask(40)
    learner.tell(Trial(number=40, run="t-40", params=params, first_params=params, state="failed"))
    assert learner.ask(41) != params


def test_what_matters_is_found(trials):
    found = studies.importance(config(), trials)
    assert set(found) == {"x", "idle", "kind"}  # y is not given to every trial
    assert max(found, key=found.get) == "x"
    assert found["idle"] < 0.1
    assert studies.importance(config(), trials[:3]) == {}


def test_several_metrics_are_learnt_at_once():
    both = config(("loss", "size"), ("min", "max"))
    learner = studies.Learner(both, [], 20)
    assert len(run(learner, range(20))) == 20
