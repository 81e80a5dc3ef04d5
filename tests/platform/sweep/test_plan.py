"""A sweep is checked whole against the run's and the generator's schema, before anything starts."""

import pytest

from genloom.errors import InvalidConfig
from genloom_platform.sweep import plan as plans


def values(**changes):
    sweep = {
        "run": {"generator": {"name": "image-classifier"}, "data": "digits", "steps": 100},
        "space": {"optimizer.lr": {"log_range": [1e-4, 1e-1]}},
        "metric": "loss",
        "mode": "min",
        "trials": 4,
    }
    return sweep | changes


def faults(store, **changes):
    with pytest.raises(InvalidConfig) as error:
        plans.resolve(values(**changes), store)
    return str(error.value)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"optimizer.lrr": {"range": [0.1, 0.2]}}, "space.optimizer.lrr.* no such key; did you mean 'lr'"),
        ({"widht": {"choice": [8, 16]}}, "space.widht.*there is no such key; did you mean 'width'"),
        ({"dropout": {"range": [0.2, 1.2]}}, r"space.dropout = 1.2: should be less than 1"),
        ({"width": {"range": [8, 16]}}, "space.width = 11.*integer.*a whole number"),
        ({"width": {"int_range": [8, 16]}}, "space.width = 9: .*multiple of 4"),
        ({"width": {"choice": [8, "wide"]}}, "space.width = 'wide': .*integer"),
        ({"optimizer.name": {"choice": ["AdamW", "Adamm"]}}, "optimizer.name = 'Adamm'.*did you mean 'Adam"),
        ({"optimizer.momentum": {"range": [0.1, 0.9]}}, "optimizer.momentum = 0.1.*AdamW takes no momentum"),
        ({"global_batch": {"choice": [32, 33]}}, "space.global_batch = 33: must divide"),
        ({"accumulate": {"choice": [1, 3]}}, "space.accumulate = 3: global_batch: must divide"),
        ({"steps": {"choice": [10, 20]}}, "space.steps: is what trials are compared under; .* run.steps"),
        ({"optimizer.lr": {"range": [0.2, 0.1]}}, "space.optimizer.lr.*must go from a number to a greater one"),
        ({"optimizer.lr": {"log_range": [0, 0.1]}}, "must start above 0"),
        ({"optimizer.lr": {"range": [0, 1], "choice": [1]}}, "takes one of range, log_range"),
        ({"optimizer.lr": {"choice": []}}, "at least one value"),
        ({"optimizer.lr": {"rnage": [0.1, 1]}}, "space.optimizer.lr.rnage.*there is no such key"),
        ({}, r"space = \{\}: must have at least 1 entry, and has 0; add 1 or more$"),
        ({"width": {"choice": [8]}, "generator.width": {"choice": [4]}}, "is the same key as width"),
        (
            {"dropout": {"range": [0, 0.5], "when": {"widht": 8}}, "width": {"choice": [8, 16]}},
            "when.widht: names no key of the space; did you mean 'width'",
        ),
        (
            {"dropout": {"range": [0, 0.5], "when": {"width": 12}}, "width": {"choice": [8, 16]}},
            "when.width = 12: is no value that width is given; give 8, 16",
        ),
        (
            {
                "dropout": {"choice": [0, 0.5], "when": {"width": 8}},
                "width": {"choice": [8], "when": {"dropout": 0}},
            },
            "depend on each other in a circle",
        ),
    ],
)  # fmt: skip
def test_a_wrong_space_is_told_with_the_value_the_rule_and_the_remedy(digits_store, space, told):
    run = values()["run"] | {"scale": {"workers": 2}}
    assert_found(told, faults(digits_store, space=space, run=run))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"search": "grid"}, "space.optimizer.lr: is a range, and a grid has points; give choice"),
        ({"metric": "validation/accuracy"}, r"holds none out; add validation: \{share: 0.1\}"),
        ({"metric": ["loss", "accuracy"], "mode": "min"}, "mode = 'min': must be one for each of 2 metrics"),
        ({"metric": ["a", "b"], "mode": ["min", "min"], "scheduler": "asha"}, "compares trials by one"),
        ({"mode": "least"}, "mode.*'min'"),
        ({"trials": None}, "trials.*required and missing"),
        ({"best": 5}, "best = 5: is more than the 4 trials"),
        ({"scheduler": "ashaa"}, "'ashaa': is no scheduler; give one of none, asha, hyperband, median, pbt"),
        ({"scheduler": {"name": "asha", "grave": 3}}, "scheduler.grave.*did you mean 'grace'"),
        ({"scheduler": {"name": "asha", "grace": 200}}, "scheduler.grace = 200: is beyond the run's 100 steps"),
        ({"scheduler": {"name": "pbt", "perturb": ["lr"]}}, "'lr': names no key of the space"),
        ({"scheduler": "pbt", "space": {"width": {"choice": [8, 16]}}}, "nothing of the space can be changed"),
        ({"scheduler": "pbt", "search": "optuna"}, "cannot learn from trials that pbt pauses"),
        ({"serach": "grid"}, "serach.*did you mean 'search'"),
        ({"run": {"generator": {"name": "image-clasifier"}, "data": "digits"}}, "run.generator.*mean 'image-"),
        ({"run": values()["run"] | {"data": "digit"}}, "run.data.*did you mean 'digits'"),
        ({"run": values()["run"] | {"global_bach": 3}}, "run.global_bach.*did you mean 'global_batch'"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_told(digits_store, changes, told):
    assert_found(told, faults(digits_store, **changes))


def test_all_faults_come_at_once(digits_store):
    told = faults(
        digits_store,
        run=values()["run"] | {"global_bach": 3},
        space={
            "widht": {"choice": [8]},
            "dropout": {"range": [0, 2]},
            "optimizer.lr": {"choice": [1e-3]},
        },
        best=9,
    )
    assert told.startswith("the sweep has 4 errors")
    assert "space.optimizer.lr" not in told


def test_a_space_may_give_what_the_run_leaves_out_and_conditions_may_enable_a_key(digits_store):
    sweep = values(
        run={"generator": {"name": "image-classifier"}, "steps": 100},
        space={
            "data": {"choice": ["digits"]},
            "optimizer.name": {"choice": ["AdamW", "SGD"]},
            "optimizer.momentum": {"range": [0.1, 0.9], "when": {"optimizer.name": "SGD"}},
            "optimizer.lr": {"choice": ["1e-3", 0.01]},
        },
    )
    plan = plans.resolve(sweep, digits_store)
    assert plan.config.space["optimizer.lr"].choice == (0.001, 0.01)
    run = plan.run({"data": "digits", "optimizer.name": "SGD", "optimizer.momentum": 0.5, "width": 8})
    assert run.optimizer == {"name": "SGD", "momentum": 0.5}
    assert run.generator["width"] == 8
    assert run.checkpoint.every == plan.every == 5


def test_overrides_reach_the_sweep_its_run_and_its_space(tmp_path, digits_store):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "run: {generator: {name: image-classifier}, data: digits}\nmetric: loss\nmode: min\n"
    )
    words = ["trials=3", "steps=40", "width=8", "space.optimizer.lr={choice: [1e-2, 1e-3]}"]
    plan = plans.resolve(plans.read(str(file), words), digits_store)
    assert (plan.trials, plan.steps, plan.base.generator["width"]) == (3, 40, 8)
    assert plan.config.space["optimizer.lr"].choice == (0.01, 0.001)


def assert_found(pattern, text):
    import re

    assert re.search(pattern, text), text
