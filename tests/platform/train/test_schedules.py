"""Learning-rate schedules, at their corners."""

import pytest

from genloom_platform.train.schedules import Schedule


def factors(steps, **settings):
    schedule = Schedule.model_validate(settings)
    return [schedule.factor(step, steps) for step in range(steps)]


def test_a_constant_rate_is_the_whole_rate():
    assert factors(5) == [1] * 5


def test_warm_up_rises_in_equal_steps_to_the_whole():
    assert factors(6, warmup=3) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_falling_rate_starts_whole_and_ends_at_the_floor(name):
    found = factors(100, name=name, warmup=10, floor=0.1)
    assert found[10] == 1
    assert found[10:] == sorted(found[10:], reverse=True)
    assert Schedule.model_validate({"name": name, "floor": 0.1}).factor(100, 100) == pytest.approx(0.1)
    middle = factors(100, name=name)[50]
    assert middle == pytest.approx(0.5)


def test_one_cycle_rises_for_three_tenths_and_falls_to_the_floor():
    found = factors(100, name="one-cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert found.index(max(found)) == 30
    assert found[30] == 1
    assert found[99] < 0.01


def test_torchs_own_schedules_agree():
    import torch

    steps = 50
    weight = torch.nn.Parameter(torch.zeros(1))
    for ours, theirs in [
        ({"name": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps)),
        ({"name": "linear"}, lambda o: torch.optim.lr_scheduler.LinearLR(o, 1, 1e-12, steps)),
    ]:
        optimizer = torch.optim.SGD([weight], lr=1)
        scheduler = theirs(optimizer)
        for factor in factors(steps, **ours):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(factor, abs=1e-9)
            optimizer.step()
            scheduler.step()
