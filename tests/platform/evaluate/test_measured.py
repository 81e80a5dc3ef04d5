"""Metrics with intervals: right, honest where there is nothing to tell, and numbers all the same."""

import pickle

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from genloom_platform.evaluate.measured import Measured, resampled, share, shown
from genloom_platform.evaluate.predictor import macro

NAMES = ["precision", "recall", "f1"]


def labels(rows, classes, right=0.9, seed=0):
    rng = np.random.default_rng(seed)
    guess = rng.integers(0, classes, rows)
    return guess, np.where(rng.random(rows) < right, guess, rng.integers(0, classes, rows))


@pytest.mark.parametrize(("rows", "classes"), [(4, 3), (30, 5), (200, 10), (500, 100)])
def test_the_figures_are_those_of_torchmetrics(rows, classes):
    guess, truth = labels(rows, classes)
    many = int(max(guess.max(), truth.max())) + 1
    theirs = [
        measure(torch.tensor(guess), torch.tensor(truth), many).item()
        for measure in (multiclass_precision, multiclass_recall, multiclass_f1_score)
    ]
    assert macro(guess, truth).tolist() == pytest.approx(theirs, abs=1e-6)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    covered = {"accuracy": 0, "mean": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        right = int((rng.random(150) < 0.9).sum())
        covered["accuracy"] += (m := share(right, 150, "rows")).low <= 0.9 <= m.high
        values = rng.exponential(1.0, 150)
        found = resampled((values,), lambda v: v.mean(-1)[None], ["mean"], "rows")["mean"]
        covered["mean"] += found.low <= 1.0 <= found.high
    assert all(0.9 <= count / 200 <= 0.99 for count in covered.values()), covered


def test_the_same_rows_give_the_same_interval():
    rows = labels(100, 4)
    first, again = (resampled(rows, macro, NAMES, "rows") for _ in range(2))
    assert [(m.low, m.high) for m in first.values()] == [(m.low, m.high) for m in again.values()]


def test_where_resampling_tells_nothing_there_is_no_interval():
    right = (np.arange(20) % 4,) * 2
    assert not any(isinstance(v, Measured) for v in resampled(right, macro, NAMES, "rows").values())
    assert (m := share(20, 20, "rows")) == 1.0
    assert m.low == pytest.approx(0.8389, abs=1e-4)  # Wilson's holds at the edge
    one = (np.array([1]), np.array([0]))
    assert not any(isinstance(v, Measured) for v in resampled(one, macro, NAMES, "rows").values())


def test_a_metric_is_its_value_and_travels_whole():
    measured = Measured(0.989, 0.974, 0.998, "198 rows")
    assert measured + 1 == pytest.approx(1.989)
    assert shown(measured) == "0.989 [0.974, 0.998]"
    assert shown(0.5) == "0.5"
    again = pickle.loads(pickle.dumps(measured))
    assert (again, again.low, again.high, again.on) == (0.989, 0.974, 0.998, "198 rows")
