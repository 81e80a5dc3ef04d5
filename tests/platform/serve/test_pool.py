"""Three models in a process that holds two of them."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pool_toys as toys
import pytest
import ray

from genloom.errors import RequestError
from genloom_platform.serve import keys, launch, wanted

CHANGE_S = 120


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    made = toys.Folder(tmp_path_factory.mktemp("shelf"))
    made.promote("a", "champion", 1)
    return made


@pytest.fixture(scope="module")
def http(shelf):
    ray.cloudpickle.register_pickle_by_value(toys)
    alone = not ray.is_initialized()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {
        "models": [{"model": name, "pool": "small"} for name in ("a@champion", "b@1", "c@1")],
        "pools": {"small": {"hold": 2, "cpus": 0.1}},
        "port": port,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(keys.VARIABLE, raising=False)
        url = launch.start_shelf(wanted.checked(values, "the test"), shelf)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield client
    launch.stop()
    if alone:
        ray.shutdown()


def ask(http, model, **prompt):
    """The version that answered, its number, its process, and the memory that this has."""
    answer = http.post("/v1/generate", json={"model": model, "prompts": [prompt]})
    assert answer.is_success, answer.text
    number, pid, used = answer.json()["samples"][0]["sample"].split()
    return answer.json()["model"], float(number), int(pid), int(used)


def test_models_share_a_process_and_each_answers_as_by_itself(http):
    told = [ask(http, model, seed=seed) for seed in (0, 3) for model in "abc"]
    assert [each[:2] for each in told] == [
        (f"{model}@1", toys.weight_of(model, 1) + seed) for seed in (0, 3) for model in "abc"
    ]
    assert len({pid for _, _, pid, _ in told}) == 1


def test_a_model_that_is_put_away_takes_no_memory(http):
    ask(http, "a")
    before = ask(http, "b")[3]
    for _ in range(5):  # each of these loads a model
        ask(http, "c")
        ask(http, "a")
        after = ask(http, "b")[3]
    assert after < before + toys.SIZE_BYTES
    held = after
    assert ask(http, "b")[3] - held < toys.SIZE_BYTES / 4


def test_a_request_under_way_is_answered_though_its_model_is_put_away_meanwhile(http):
    ask(http, "a")
    with ThreadPoolExecutor(1) as caller:
        slow = caller.submit(ask, http, "a", wait_s=3, seed=7)
        time.sleep(0.3)
        ask(http, "b")
        ask(http, "c")
        assert not slow.done()
        assert slow.result()[:2] == ("a@1", toys.weight_of("a", 1) + 7)


def test_each_of_many_requests_at_once_is_answered_by_the_model_that_it_asks_for(http):
    names = "aabbab" * 4  # two that are held, so that their batches could mix
    with ThreadPoolExecutor(8) as callers:
        told = list(callers.map(lambda name: ask(http, name, seed=0, wait_s=0.02), names))
    assert [each[1] for each in told] == [toys.weight_of(name, 1) for name in names]


def test_a_stream_comes_from_the_model_that_it_asks_for(http):
    answer = http.post("/v1/generate/b?stream=true", json={"seed": 1})
    assert answer.is_success, answer.text
    assert '"model":"b@1"' in answer.text.replace(" ", "")
    assert str(toys.weight_of("b", 1) + 1) in answer.text


def test_a_promotion_needs_no_other_process(http, shelf):
    pid = ask(http, "a")[2]
    shelf.promote("a", "champion", 2)
    until(lambda: ask(http, "a")[0] == "a@2", "promoted")
    assert ask(http, "a", seed=0)[1:3] == (toys.weight_of("a", 2), pid)
    listed = http.get("/v1/models").json()["data"]
    assert {each["id"]: each["version"] for each in listed} == {"a": "2", "b": "1", "c": "1"}


def test_a_version_that_cannot_be_loaded_is_told_and_the_one_before_answers(http, shelf):
    shelf.promote("a", "champion", 5)
    fault = "a@5 cannot be served: the weights are corrupt; train it again"
    until(lambda: fault in launch.state().faults, "told")
    assert ask(http, "a")[0] == "a@2"
    shelf.promote("a", "champion", 2)
    until(lambda: not launch.state().faults, "taken back")


def test_loads_are_counted(http):
    ask(http, "b")
    wanted_lines = (
        r'ray_genloom_serve_model_loads_total{(?=.*model="c@1").*pool="small"',
        r'ray_genloom_serve_models_put_away_total{.*pool="small"',
        r'ray_genloom_serve_model_load_seconds_sum{.*model="b@1"',
        r'ray_genloom_serve_models_held{.*pool="small".*} 2',
    )
    (node,) = (node for node in ray.nodes() if node["Alive"])
    page = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def counted():
        text = httpx.get(page, trust_env=False).text
        return all(re.search(line, text) for line in wanted_lines)

    until(counted, "counted")


def test_a_replica_that_no_node_can_hold_is_refused_at_once(http, shelf):
    for room, said in (({"gpus": 1}, "takes 1 CPU, 1 GPU"), ({"resources": {"L4": 0.1}}, "0.1 L4")):
        asked = wanted.checked({"models": [{"model": "b@1", **room}], "port": 1025}, "the test")
        with pytest.raises(RequestError, match=f"b@1: a replica {said}" if "gpus" in room else said):
            launch.start_shelf(asked, shelf)
    assert ask(http, "b")[0] == "b@1"


def until(true, what):
    deadline = time.monotonic() + CHANGE_S
    while not true():
        assert time.monotonic() < deadline, f"{what}: {launch.state()}"
        time.sleep(0.2)
