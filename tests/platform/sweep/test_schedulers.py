"""What schedulers know of a sweep that goes on, and how population based training changes values."""

from types import SimpleNamespace

import pytest

from genloom.errors import InvalidConfig
from genloom_platform.sweep import plan as plans
from genloom_platform.sweep import room, schedulers
from genloom_platform.sweep.records import Look, Trial

CONTINUE, STOP = "CONTINUE", "STOP"


@pytest.fixture
def plan(digits_store):
    def make(scheduler, **changes):
        values = {
            "run": {"generator": {"name": "image-classifier"}, "data": "digits", "steps": 100},
            "space": {"optimizer.lr": {"log_range": [1e-4, 1e-1]}},
            "metric": "loss", "mode": "min", "trials": 8, "every": 10, "scheduler": scheduler,
        }  # fmt: skip
        return plans.resolve(values | changes, digits_store)

    return make


def trial(number, losses, state="stopped"):
    looks = tuple(Look(step=10 * n, metrics={"loss": v}, seconds=1) for n, v in enumerate(losses, 1))
    return Trial(
        number=number, run=f"t-{number}", params={}, first_params={}, state=state, looks=looks,
        place=number + 1 if state != "running" else 0,
    )  # fmt: skip


class Live:
    """A trial of Tune, as far as these schedulers look at it."""

    def __init__(self, name):
        self.trial_id = f"id of {name}"
        self._name = name

    def __str__(self):
        return self._name


def looked_at(scheduler, live, step, loss):
    controller = SimpleNamespace(get_live_trials=list)
    return scheduler.on_trial_result(controller, live, {"step": step, "metrics/loss": loss})


def test_asha_judges_by_the_trials_before_the_sweep_was_cut_off(plan):
    before = [trial(0, [1.0, 0.9]), trial(1, [2.0]), trial(2, [1.5, 1.2], state="running")]
    fresh = schedulers.scheduler_of(plan({"name": "asha", "factor": 2}), dict)
    fresh.on_trial_add(None, Live("t-3"))
    assert looked_at(fresh, Live("t-3"), 10, 1.8) == CONTINUE
    knowing = schedulers.scheduler_of(plan({"name": "asha", "factor": 2}), dict)
    schedulers.remember(knowing, before)
    for name in ("t-2", "t-3"):
        knowing.on_trial_add(None, Live(name))
    assert looked_at(knowing, Live("t-3"), 10, 1.8) == STOP
    assert looked_at(knowing, Live("t-2"), 30, 0.5) == CONTINUE


def test_the_median_rule_judges_by_the_trials_before(plan):
    settings = {"name": "median", "trials": 2}
    before = [trial(0, [1.0, 0.9, 0.8], "finished"), trial(1, [1.2, 1.0, 0.9], "finished")]
    for knows, decision in ((False, CONTINUE), (True, STOP)):
        scheduler = schedulers.scheduler_of(plan(settings), dict)
        if knows:
            schedulers.remember(scheduler, before)
        scheduler.on_trial_add(None, Live("t-3"))
        assert looked_at(scheduler, Live("t-3"), 20, 3.0) == decision


def test_perturbed_values_keep_to_bounds_steps_and_conditions_and_the_models_shape_stays(plan):
    space = {
        "width": {"choice": [8, 16]},
        "optimizer.lr": {"log_range": [1e-4, 1e-1]},
        "optimizer.name": {"choice": ["AdamW", "SGD"]},
        "optimizer.momentum": {"range": [0.5, 0.9], "when": {"optimizer.name": "SGD"}},
        "schedule.warmup": {"int_range": [2, 20], "step": 2},
    }
    made = plan("pbt", space=space)
    assert made.perturbed() == ["optimizer.lr", "optimizer.momentum", "schedule.warmup"]
    explore = schedulers.scheduler_of(made, lambda params: {"params": params})._custom_explore_fn
    params = {"width": 8, "optimizer.lr": 0.09, "optimizer.name": "SGD", "optimizer.momentum": 0.5,
              "schedule.warmup": 2}  # fmt: skip
    seen = []
    for _ in range(200):
        changed = explore({"trial": {"params": params}})["trial"]["params"]
        assert (changed["width"], changed["optimizer.name"]) == (8, "SGD")
        assert 1e-4 <= changed["optimizer.lr"] <= 1e-1
        assert 0.5 <= changed["optimizer.momentum"] <= 0.9
        assert changed["schedule.warmup"] in range(2, 21, 2)
        seen.append((changed["optimizer.lr"], changed["schedule.warmup"]))
        params = changed
    assert len({rate for rate, _ in seen}) > 100
    assert len({warmup for _, warmup in seen}) == 10


def test_values_that_do_not_go_together_are_not_gone_on_with(plan):
    def refuses(params):
        raise InvalidConfig("the run's configuration", [])

    explore = schedulers.scheduler_of(plan("pbt"), refuses)._custom_explore_fn
    told = {"trial": {"params": {"optimizer.lr": 0.01}}}
    assert explore(told) == told


def test_as_many_trials_fit_the_nodes_as_may_run():
    for nodes, concurrent in (([100.0], 3), ([100.0, 100.0], 5), ([100.0, 50.0], 4), ([7.0] * 3, 3)):
        claim = room.share_of_memory(nodes, concurrent)
        fitting = sum(int(node // claim) for node in nodes)
        assert 1 <= fitting <= concurrent
        assert fitting >= concurrent - len(nodes) + 1
    with pytest.raises(Exception, match="concurrent=3 or more"):
        room.share_of_memory([7.0] * 3, 2)
