"""What a cluster's workers are told."""

import pytest

from genloom.errors import RequestError
from genloom_platform import autoscaling, cluster


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


HAS = {"CPU": 12.0, "GPU": 2.0}


@pytest.mark.parametrize(("asked", "most", "words"), [
    ((12, 2), {}, ""),
    ((12, 8), {"CPU": 64, "GPU": 8}, ""),
    ((13, 0), {}, "asks for 13 CPUs (1 for its data), and the cluster has 12 CPUs, 2 GPUs; it has no autoscaler "
     "to bring more: add nodes, or lower scale.workers"),
    ((1, 9), {"CPU": 64, "GPU": 8}, "asks for 9 GPUs, and the cluster has 12 CPUs, 2 GPUs; its autoscaler can "
     "bring it to 8 GPUs: raise max_workers there"),
    ((1, 3), {"CPU": 64}, "its autoscaler brings no more GPUs: give it workers that have them"),
])  # fmt: skip
def test_what_a_cluster_lacks_is_told_with_what_it_has_and_what_could_bring_more(asked, most, words):
    told = cluster.lacking(*asked, HAS, most)
    assert words in told
    assert bool(told) == bool(words)


def test_where_a_cluster_has_no_gpu_fewer_workers_are_no_remedy():
    told = cluster.lacking(2, 1, {"CPU": 12}, {})
    assert told.endswith(
        "it has no autoscaler to bring more: add nodes, or give scale.gpus_per_worker=0"
    )
    told = cluster.lacking(2, 4, HAS, {})
    assert told.endswith("or lower scale.workers or scale.gpus_per_worker")


def test_a_worker_that_no_machine_has_room_for_is_refused(ray_cluster):
    cluster.require_node(1, 0)
    with pytest.raises(
        RequestError, match=r"asks for 1 CPUs and 1 GPUs on one machine.* and 0 GPUs; lower"
    ):
        cluster.require_node(1, 1)
    with pytest.raises(RequestError, match="asks for 9999 CPUs"):
        cluster.require_node(9999, 0)


def test_a_worker_may_wait_for_a_machine_that_an_autoscaler_can_bring(ray_cluster, monkeypatch):
    monkeypatch.setenv(autoscaling.VARIABLE, "CPU=4+10*CPU=8,GPU=1")
    cluster.require_node(8, 1)
    with pytest.raises(RequestError, match=r"asks for 1 CPUs and 2 GPUs on one .* and 1 GPUs; lower"):
        cluster.require_node(1, 2)


def test_workers_leave_a_cpu_for_their_data():
    machines = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert cluster.room(machines, 8, 1) == 2
    assert cluster.room(machines[1:], 8, 1) == 1
    assert cluster.room(machines, 5, 0) == 2
    assert cluster.room(machines, 9, 0) == 0
