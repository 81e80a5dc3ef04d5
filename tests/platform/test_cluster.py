"""What a cluster's workers are told."""

import pytest

from genloom_platform import cluster


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(cluster, "_has_gpu", lambda: False)


def test_a_command_on_a_machine_without_gpu_leaves_those_of_a_clusters_nodes_alone(monkeypatch, no_gpu):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert not {"DS_ACCELERATOR", "PATH"} & cluster.environment().keys()


def test_a_cluster_on_a_machine_without_gpu_trains_on_cpus(monkeypatch, no_gpu):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster.environment()["DS_ACCELERATOR"] == "cpu"


def test_workers_find_the_store_that_the_command_has(monkeypatch):
    monkeypatch.setenv("GENLOOM_STORE", "s3://bucket/team")
    assert cluster.environment()["GENLOOM_STORE"] == "s3://bucket/team"
