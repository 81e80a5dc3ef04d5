"""How many trials a cluster runs at a time."""

import pytest

from genloom_platform import autoscaling
from genloom_platform.sweep import plan as plans
from genloom_platform.sweep import room

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(
    ("grows_to", "scale", "concurrent", "at_a_time"),
    [
        ("", {}, None, 5),
        ("", {"workers": 2}, None, 2),
        ("CPU=4+10*CPU=8,GPU=1", {"gpus_per_worker": 1}, None, 10),
        ("CPU=4+10*CPU=8,GPU=1", {"gpus_per_worker": 1, "cpus_per_worker": 8, "workers": 2}, None, 5),
        ("CPU=4+10*CPU=8,GPU=1", {"gpus_per_worker": 1}, 3, 3),
        ("CPU=4+3*CPU=8", {"cpus_per_worker": 4}, None, 7),
        ("CPU=2", {}, None, 5),
    ],
)
def test_as_many_trials_run_as_the_machines_hold_that_there_are_or_may_come(
    digits_store, monkeypatch, grows_to, scale, concurrent, at_a_time
):
    monkeypatch.setenv("RAY_ADDRESS", "the cluster that is connected")
    monkeypatch.setenv(autoscaling.VARIABLE, grows_to)
    run = {"generator": {"name": "image-classifier"}, "data": "digits", "steps": 100, "scale": scale}
    values = {
        "run": run, "space": {"optimizer.lr": {"log_range": [1e-4, 1e-1]}}, "metric": "loss", "mode": "min",
        "trials": 20, "concurrent": concurrent,
    }  # fmt: skip
    assert room.connect(plans.resolve(values, digits_store)) == at_a_time
