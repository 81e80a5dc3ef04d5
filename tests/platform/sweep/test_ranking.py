"""Which trial is better: by one metric, by several, and who has nothing to show."""

import math

import pytest

from genloom_platform.sweep import ranking
from genloom_platform.sweep.finish import too_few
from genloom_platform.sweep.records import Look, Trial
from genloom_platform.sweep.settings import Dimension, SweepConfig


def config(metric, mode, best=1):
    space = {"optimizer.lr": Dimension(choice=(1, 2))}
    return SweepConfig(run={}, space=space, metric=metric, mode=mode, trials=9, best=best)


def trial(number, state="finished", **metrics):
    looks = (Look(step=10, metrics=metrics, seconds=1),) if metrics else ()
    return Trial(number=number, run=f"t-{number}", params={}, first_params={}, state=state, looks=looks)


def numbers(trials):
    return [each.number for each in trials]


def test_the_best_come_first_and_those_without_a_number_not_at_all():
    trials = [
        trial(0, loss=3.0),
        trial(1, loss=1.0),
        trial(2, loss=math.nan),
        trial(3),
        trial(4, loss=2.0),
    ]
    assert numbers(ranking.ranked(trials, config("loss", "min"))) == [1, 4, 0]
    assert numbers(ranking.ranked(trials, config("loss", "max"))) == [0, 4, 1]


def test_only_those_that_trained_in_full_are_registered():
    trials = [
        trial(0, "stopped", loss=0.1),
        trial(1, loss=0.4),
        trial(2, loss=0.3),
        trial(3, "failed", loss=0),
    ]
    assert numbers(ranking.best(trials, config("loss", "min", best=3))) == [2, 1]


@pytest.mark.parametrize(("count", "told"), [
    (1, "only 1 trial trained in full, so no more is registered"),
    (2, "only 2 trials trained in full, so no more are registered"),
])  # fmt: skip
def test_fewer_than_were_asked_for_are_counted_in_words(count, told):
    assert too_few(count) == told


def test_with_several_metrics_the_front_comes_first():
    trials = [
        trial(0, loss=1.0, size=9.0), trial(1, loss=2.0, size=2.0), trial(2, loss=2.5, size=3.0),
        trial(3, loss=4.0, size=1.0), trial(4, loss=5.0, size=9.0),
    ]  # fmt: skip
    several = config(("loss", "size"), ("min", "min"))
    assert numbers(ranking.front(trials, several)) == [0, 1, 3]
    assert numbers(ranking.ranked(trials, several)) == [0, 1, 3, 2, 4]
