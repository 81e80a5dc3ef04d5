"""Workers that share the cores of this machine: what is said of them, and when they are refused."""

import os

import pytest

from genloom.errors import RequestError
from genloom_platform import cluster
from genloom_platform.config import RunConfig, read_values, resolve
from genloom_platform.train import crowding, launch
from genloom_platform.train.crowding import PROCESS_BYTES, too_much, warning
from genloom_platform.train.layout import ModelSize, PartSize

SIZE = ModelSize(parts=(PartSize(trained=1_000_000, largest=1000, state_bytes=8),))


def a_config(**scale):
    return RunConfig(generator={"name": "example"}, data="digits", global_batch=64, scale=scale)


@pytest.mark.parametrize(("scale", "cores", "said"), [
    ({"workers": 2}, 2, ""),
    ({"workers": 4, "cpus_per_worker": 0.5}, 2, ""),
    ({"workers": 64}, 2, "the workers ask for 64 CPUs (64 × 1), and share the 2 cores"),
    ({"workers": (1, 8)}, 4, "the workers ask for 8 CPUs (8 × 1), and share the 4 cores"),
])  # fmt: skip
def test_workers_without_a_core_each_are_told(scale, cores, said):
    found = warning(a_config(**scale), cores)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_more_workers_than_the_memory_holds_are_refused_with_the_number_that_it_does():
    config = a_config(workers=64)
    told = too_much(config, SIZE, 10e9)
    assert told.startswith("64 workers need ")
    assert (
        "250.0 MB for its process, and this machine has 10.0 GB; give scale.workers=32, or name" in told
    )
    assert too_much(config, SIZE, 64 * (PROCESS_BYTES + 100e6)) == ""
    assert "give a smaller model" in too_much(config, SIZE, 1e6)


def test_a_run_is_told_and_refused_before_a_cluster_is_started(digits_store, monkeypatch):
    config = resolve(
        read_values("image-classifier", ["data=digits", "global_batch=1024", "scale.workers=1024"]),
        digits_store,
    )
    monkeypatch.setattr(cluster, "starts_here", lambda: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(cluster, "machine_bytes", lambda: 16e9)
    before, said = digits_store.names("runs"), []
    with pytest.raises(
        RequestError, match=r"this machine has 16\.0 GB; give scale\.workers=32, or name a cluster"
    ):
        launch.train(digits_store, config, on_event=said.append)
    assert said == [crowding.warning(config, 2)]
    assert digits_store.names("runs") == before


def test_a_cluster_that_is_named_or_there_is_not_started_here(monkeypatch):
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert cluster.starts_here()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    assert not cluster.starts_here()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    assert not cluster.starts_here()
