"""Room that an autoscaler is asked for."""

import time

import pytest
from ray.util import placement_group_table

from genloom_platform import autoscaling
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
