"""Validation: measured alike by any number of workers at any ZeRO stage, without a trace in the training."""

import pytest
from ranks import on_ranks
from training import validated

from genloom_platform.data import manifest as manifests

STAGES = (0, 1, 3)


@pytest.fixture(scope="module")
def one(digits_store):
    """The metrics of some steps of one worker, with validation and without."""
    return on_ranks(1, validated, digits_store.url, (0,))[0][0]


def test_the_training_is_the_same_as_without_a_look_at_the_held_out_rows(one):
    metrics, unlooked = one
    assert [each["loss"] for each in metrics] == [each["loss"] for each in unlooked]
    assert [each["calls"] for each in metrics] == list(range(1, len(metrics) + 1))
    looks = [each for each in metrics if "validation/loss" in each]
    assert len(looks) == len(metrics) // 4
    assert looks[-1]["validation/loss"] < looks[0]["validation/loss"]


def test_two_workers_measure_what_one_does_at_every_zero_stage(digits_store, one):
    for whole in on_ranks(2, validated, digits_store.url, STAGES)[0]:
        for ours, theirs in zip(whole[0], one[0], strict=True):
            assert ours == {name: pytest.approx(value, rel=1e-3) for name, value in theirs.items()}


def test_a_split_can_be_named(digits_store):
    rows = manifests.load(digits_store, "digits").splits["test"]
    metrics, _ = on_ranks(1, validated, digits_store.url, (0,), {"split": "test", "rows": rows})[0][0]
    assert metrics[3]["validation/loss"] > 0
