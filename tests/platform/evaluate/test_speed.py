"""What an option gains and costs, measured of a registered model and told of it."""

import json

import numpy as np
import pytest
from registering import Versions

import genloom
from genloom import Image, Text
from genloom.errors import RequestError
from genloom.predictions import Label, Ranking
from genloom_platform.evaluate import speed
from genloom_platform.evaluate.speed import compared, measure
from genloom_platform.models.registry import Registry
from genloom_platform.serve.speed import Speed


@pytest.fixture(scope="module")
def version(digits_store):
    return Versions(digits_store).make("image-vae", "generator.width=8", "model=speedy")


def test_an_option_is_measured_and_written_to_the_version(digits_store, version, monkeypatch):
    monkeypatch.setattr(speed, "TURN_S", 0.001)
    told, found = measure(digits_store, version.full_name, Speed(precision="int8"))
    assert (found.model, found.option, found.device) == (version.full_name, "int8", "CPU")
    assert [pace.batch for pace in found.paces] == [1, 64]
    assert all(pace.rate_hz == pytest.approx(pace.gain * pace.plain_rate_hz) for pace in found.paces)
    cost = found.metrics["bits_per_unit"]
    assert 0 < abs(cost.value - cost.plain) < 0.1 * cost.plain
    assert "[" in cost.plain_shown
    assert (found.num_samples, found.mean_difference > 0) == (64, True)
    assert told.tags["speed.int8"] == found.told
    kept = Registry(digits_store).find(version.full_name).tags["speed.int8"]
    assert "batch 64:" in kept
    assert "bits_per_unit" in kept
    assert json.loads(found.model_dump_json())["paces"][0]["rate_hz"] > 0


def test_what_changes_nothing_is_not_measured(digits_store, version):
    with pytest.raises(RequestError, match="--precision bf16 or int8, or --compile"):
        measure(digits_store, version.full_name, Speed())


def test_the_command_prints_the_table(digits_store, version, genloom_command):
    words = ("models", "speed", version.full_name, "--precision", "bf16")
    done = genloom_command(*words, store=digits_store.url)
    assert done.returncode == 0, done.stderr
    for part in ("requests/s, batch 64", "bits_per_unit", "alone as in a batch", "×"):
        assert part in done.stdout
    refused = genloom_command("models", "speed", version.full_name, store=digits_store.url)
    assert (refused.returncode, "--compile" in refused.stderr) == (2, True)


def test_answers_are_compared_by_their_numbers_where_they_have_some():
    black, grey = (Image(np.full((2, 2, 1), level, np.uint8)) for level in (0, 10))
    assert compared([black, grey], [black, black]) == (0.5, 5.0)
    assert compared([Text("a"), Text("b")], [Text("a"), Text("c")]) == (0.5, None)
    wide = Image(np.zeros((2, 3, 1), np.uint8))
    assert compared([black], [wide]) == (0.0, None)
    some, other = (Label(index=0, probabilities=(p, 1 - p)) for p in (0.5, 0.75))
    assert compared([some], [other]) == (0.0, 0.25)
    ranking = Ranking(ids=(1, 2), scores=(0.5, 0.25))
    assert compared([ranking], [ranking]) == (1.0, None)
    with pytest.raises(genloom.GenloomError, match="no answer that can be compared"):
        compared([3], [4])
