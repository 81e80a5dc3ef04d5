"""What the watch writes down of what trials tell: failures, changes, and that nobody reports the metric."""

from types import SimpleNamespace

import pytest

from genloom_platform.sweep.records import Trial
from genloom_platform.sweep.settings import Dimension, Pbt, SweepConfig
from genloom_platform.sweep.watch import Watch


class Tuned:
    """A trial of Tune; the scheduler may have changed its values since its process was told of them."""

    def __str__(self):
        return "s-0000"


@pytest.fixture
def watch():
    space = {"optimizer.lr": Dimension(log_range=(1e-4, 1e-1))}
    config = SweepConfig(run={}, space=space, metric="loss", mode="min", trials=2, scheduler=Pbt())
    plan = SimpleNamespace(store=None, config=config, steps=40)
    known = Trial(
        number=0, run="s-0000", params={"optimizer.lr": 0.1}, first_params={"optimizer.lr": 0.1}
    )
    other = Trial(number=1, run="s-0001", params={}, first_params={})
    journal = SimpleNamespace(write=lambda *wanted: None, failure=None)
    events = []
    made = Watch(plan, None, None, journal, [known, other], None, lambda watch: None, events.append)
    made._trackings["s-0000"] = SimpleNamespace(log=None, end=None)
    made.events = events
    return made


def look(watch, step, rate, origin=None, failures=(), **metrics):
    result = {
        "step": step, "missing": [], "failures": list(failures), "failed": False, "reports": [],
        "origin": origin, "params": {"optimizer.lr": rate}, "time_this_iter_s": 1.0,
    } | {f"metrics/{name}": value for name, value in metrics.items()}  # fmt: skip
    watch.on_trial_result(0, [], Tuned(), result)
    return watch.trials["s-0000"]


def test_each_change_is_written_down_once_with_the_values_that_were_trained_with(watch):
    look(watch, 10, 0.1, loss=3)
    look(watch, 20, 0.1, loss=2.5)
    first = {"run": "s-0001", "step": 10}
    look(watch, 20, 0.08, first, loss=2)
    look(watch, 30, 0.08, first, loss=1.5)
    trial = look(watch, 40, 0.06, {"run": "s-0001", "step": 30}, loss=1)
    assert [(change.step, change.params["optimizer.lr"]) for change in trial.changes] == [
        (10, 0.08),
        (30, 0.06),
    ]
    assert trial.first_params == {"optimizer.lr": 0.1}
    assert trial.params == {"optimizer.lr": 0.06}
    assert [(each.step, each.metrics["loss"]) for each in trial.looks] == [
        (10, 3),
        (20, 2),
        (30, 1.5),
        (40, 1),
    ]
    assert watch.events[0] == "trial 0 goes on from s-0001 at step 10 with optimizer.lr 0.1 → 0.08"


def test_failures_are_counted_and_the_last_one_ends_the_trial(watch):
    trial = look(watch, 10, 0.1, failures=["ValueError: no"], loss=3)
    assert (trial.failures, trial.state) == (1, "running")
    failed = {"step": 10, "failures": ["ValueError: no", "ValueError: never"], "failed": True}
    watch.on_trial_result(0, [], Tuned(), failed)
    watch.on_trial_complete(0, [], Tuned())
    trial = watch.trials["s-0000"]
    assert (trial.failures, trial.state, trial.message) == (2, "failed", "ValueError: never")
    assert watch.events[-1] == "trial 0 failed: ValueError: never"
    assert not watch.over


def test_a_metric_that_is_missing_ends_the_sweep(watch):
    result = {
        "step": 10, "missing": ["loss"], "failures": [], "failed": False, "reports": [], "origin": None,
        "params": {}, "time_this_iter_s": 1.0, "metrics/loss": float("nan"), "metrics/kl": 1.0,
    }  # fmt: skip
    watch.on_trial_result(0, [], Tuned(), result)
    assert watch.over
    assert str(watch.fault) == "no trial reports 'loss'; give one of those that are reported: kl"
