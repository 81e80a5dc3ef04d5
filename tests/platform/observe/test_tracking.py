"""Runs in MLflow, on a real tracking store."""

import pytest
from registering import a_report

from genloom_platform.config import read_values, resolve
from genloom_platform.data import manifest as manifests
from genloom_platform.models.registry import Registry
from genloom_platform.observe.tracking import Tracking


@pytest.fixture(scope="module")
def started(digits_store):
    """Opens a run in MLflow as a process of its own does; gives what writes to it."""
    manifest = manifests.load(digits_store, "digits")

    def start(name, *words, parent=""):
        config = resolve(
            read_values("image-classifier", ["data=digits", "steps=3", *words]), digits_store
        )
        tracking = Tracking(Registry(digits_store))
        tracking.start(name, config, manifest, parent)
        return tracking

    return start


def test_a_run_whose_process_ended_before_it_was_recorded_has_one_run(started):
    first, again = started("twice", parent="p1"), started("twice", parent="p1")
    assert first.run_id == again.run_id


@pytest.mark.parametrize(
    ("words", "parent"), [(("optimizer.lr=0.5",), "p1"), ((), "p2")], ids=["values", "parent"]
)
def test_an_open_run_of_others_is_left_alone(started, words, parent):
    first = started(f"of-{len(words)}", parent="p1")
    assert started(f"of-{len(words)}", *words, parent=parent).run_id != first.run_id


def test_a_run_that_has_begun_is_left_alone(started):
    first = started("begun")
    first.log(a_report(1, {"loss": 1.0}))
    assert started("begun").run_id != first.run_id
