"""The search space: what is drawn keeps to bounds, steps and conditions, and is a function of the seed."""

import math

from genloom_platform.sweep import spaces
from genloom_platform.sweep.settings import Dimension

SPACE = {
    "optimizer.momentum": Dimension(range=(0.5, 0.9), when={"optimizer.name": "SGD"}),
    "optimizer.name": Dimension(choice=("AdamW", "SGD")),
    "optimizer.lr": Dimension(log_range=(1e-4, 1e-1)),
    "width": Dimension(int_range=(8, 30), step=4),
}


def test_what_is_drawn_keeps_to_bounds_steps_and_conditions():
    drawn = [spaces.drawn(SPACE, spaces.Chance(0, number)) for number in range(300)]
    for params in drawn:
        assert ("optimizer.momentum" in params) == (params["optimizer.name"] == "SGD")
        assert 0.5 <= params.get("optimizer.momentum", 0.5) <= 0.9
        assert 1e-4 <= params["optimizer.lr"] <= 1e-1
    assert {params["width"] for params in drawn} == {8, 12, 16, 20, 24, 28}
    below = sum(params["optimizer.lr"] < math.sqrt(1e-4 * 1e-1) for params in drawn)
    assert 110 < below < 190  # each power of ten is as likely as another


def test_a_trials_values_depend_on_its_number_and_the_seed_alone():
    first = [spaces.drawn(SPACE, spaces.Chance(3, number)) for number in range(5)]
    assert first == [spaces.drawn(SPACE, spaces.Chance(3, number)) for number in range(5)]
    assert first != [spaces.drawn(SPACE, spaces.Chance(4, number)) for number in range(5)]


def test_a_grid_has_every_point_once_and_conditions_prune_it():
    space = {
        "name": Dimension(choice=("a", "b", "c")),
        "size": Dimension(choice=(1, 2), when={"name": ["a", "b"]}),
        "deep": Dimension(choice=(True, False), when={"size": 2}),
    }
    points = list(spaces.grid(space))
    assert len(points) == 2 * (1 + 2) + 1
    assert {"name": "c"} in points
    assert {"name": "a", "size": 1} in points
    assert {"name": "b", "size": 2, "deep": False} in points
    assert len({str(sorted(point.items())) for point in points}) == len(points)
