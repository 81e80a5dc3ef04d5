"""Room that is waited for, and that an autoscaler is asked for."""

import time

import pytest
from ray.util import placement_group, placement_group_table, remove_placement_group

from genloom_platform import autoscaling
from genloom_platform.config import read_values, resolve
from genloom_platform.train import launch, room, runs
from genloom_platform.train.room import Wish

pytestmark = pytest.mark.usefixtures("ray_cluster")


def told(wish):
    """How Ray has it: its state, and what it asks for."""
    (found,) = [
        each
        for each in placement_group_table().values()
        if each["placement_group_id"] == wish._group.id.hex()
    ]
    return found["state"], sorted(found["bundles"].values(), key=str)


def test_a_wish_waits_until_there_is_room_and_holds_nothing_after_its_end(monkeypatch):
    monkeypatch.setenv(autoscaling.VARIABLE, "4*CPU=100")
    wish = Wish(3, 100, 0)
    assert (wish.workers, wish.has_come()) == (3, False)
    assert told(wish) == ("PENDING", [{"CPU": 1.0}, *[{"CPU": 100.0}] * 3])
    wish.end()
    assert told(wish)[0] == "REMOVED"


def test_no_more_is_wished_than_an_autoscaler_can_bring(monkeypatch):
    monkeypatch.setenv(autoscaling.VARIABLE, "CPU=1+2*CPU=4,GPU=1")
    wish = Wish(8, 4, 1)
    assert wish.workers == 2
    wish.end()


def test_what_there_is_comes(monkeypatch):
    monkeypatch.setenv(autoscaling.VARIABLE, "CPU=4")
    wish = Wish(2, 1, 0)
    until = time.monotonic() + 20
    while not wish.has_come():
        assert time.monotonic() < until
    wish.end()


@pytest.fixture
def crowded():
    """The cluster, where others hold all CPUs but one."""
    import ray

    group = placement_group([{"CPU": ray.cluster_resources()["CPU"] - 1}])
    assert group.wait(30)
    yield
    remove_placement_group(group)


@pytest.mark.parametrize("workers", ["2", "[2,3]"], ids=["fixed", "range"])
def test_a_run_says_that_it_waits_for_room_and_ends_at_once_where_it_is_asked_to(
    digits_store, crowded, monkeypatch, workers
):
    monkeypatch.setattr(room, "TOLD_S", 1)
    words = [f"scale.workers={workers}", "data=digits", "steps=4", "global_batch=24", "evaluate=false"]
    name, told = f"crowded-{len(workers)}", []

    def on_event(event):
        told.append((time.monotonic(), event))
        runs.ask_to_stop(digits_store, name)

    config = resolve(read_values("example-slow", words), digits_store)
    done = launch.train(digits_store, config, name=name, on_event=on_event)
    (began, said), *_ = told
    assert time.monotonic() - began < 20
    assert (
        said
        == "the cluster has no room for 2 workers of 1 CPU each now; the run waits for others to end"
    )
    assert (done.status.state, done.model) == ("stopped", None)
    assert (runs.status(digits_store, name).state, runs.status(digits_store, name).step) == (
        "stopped",
        0,
    )
    (attempt,) = runs.history(digits_store, name)
    assert (attempt.ending, attempt.message) == ("stopped", "stopped on request")
