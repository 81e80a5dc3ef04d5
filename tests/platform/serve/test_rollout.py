"""Changes of a real endpoint under load: none of them fails a request."""

import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest
import ray
import rollout_toys as toys
from killing import kill

from genloom_platform.serve import keys, launch, presence, wanted
from genloom_platform.store import Store

CALLERS = 4
CHANGE_S = 120
"""How long a change may take: processes start, which takes long on a machine that others use too."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    made = toys.Folder(tmp_path_factory.mktemp("shelf"))
    made.promote("champion", 1)
    made.promote("candidate", 3)
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store").as_uri())


@pytest.fixture(scope="module")
def url(shelf, store):
    """An endpoint of one model on two replicas, with a canary that fails, and of one that may sleep."""
    ray.cloudpickle.register_pickle_by_value(toys)
    alone = not ray.is_initialized()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    trial = {"version": "teller@candidate", "share": "20%", "min_requests": 20}
    sleeps = {"min": 0, "max": 1, "idle_s": 3}
    values = {
        "models": [
            {"model": "teller@champion", "cpus": 0.1, "replicas": 2, "canary": trial},
            {"model": "sleeper@1", "cpus": 0.1, "replicas": sleeps},
        ],
        "port": port,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(keys.VARIABLE, raising=False)
        yield launch.start_shelf(wanted.checked(values, "the test"), shelf, store)
    launch.stop()
    if alone:
        ray.shutdown()


class Load:
    """Callers that ask again and again, and what they were answered."""

    def __init__(self, url):
        self._url = url
        self.failures, self.versions = [], Counter()

    def ask(self, client, model="teller"):
        body = {"model": model, "prompts": [{"wait_s": 0.01}]}
        answer = client.post("/v1/generate", json=body)
        if answer.is_success:
            self.versions[answer.json()["model"]] += 1
        else:
            self.failures.append(answer.text)

    @contextmanager
    def going_on(self):
        ended = threading.Event()

        def call():
            with httpx.Client(base_url=self._url, trust_env=False, timeout=120) as client:
                while not ended.is_set():
                    try:
                        self.ask(client)
                    except httpx.HTTPError as error:
                        self.failures.append(repr(error))

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            yield self
        finally:
            ended.set()
            for caller in callers:
                caller.join()
        assert self.failures == []


def until(true, what):
    deadline = time.monotonic() + CHANGE_S
    while not true():
        assert time.monotonic() < deadline, f"{what}: {launch.state()}"
        time.sleep(0.2)


def replicas(version):
    return ray.serve.status().applications[f"genloom.{version}"].deployments[version].replica_states


def running(version):
    return replicas(version).get("RUNNING", 0)


def versions():
    return {name for name in ray.serve.status().applications if "teller" in name}


def told(store):
    (endpoint,) = presence.running(store)
    return " ".join(endpoint.routes + endpoint.news)


def test_a_canary_that_fails_is_taken_back_and_nobody_meets_its_failures(url, store):
    load = Load(url)
    with load.going_on():
        until(lambda: "canary teller@3 is taken back" in told(store), "taken back")
        until(lambda: versions() == {"genloom.teller@1"}, "ended")
    assert "of its" in told(store)
    assert set(load.versions) == {"teller@1"}


def test_a_seed_gives_its_sample_on_both_replicas_alone_and_in_a_batch(url):
    alone, pids = {}, set()
    until(lambda: running("teller@1") == 2, "two replicas")
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:

        def ask(prompts):
            answer = client.post("/v1/generate", json={"model": "teller", "prompts": prompts})
            return [sample["sample"].split() for sample in answer.json()["samples"]]

        for turn in range(40):
            ((number, pid),) = ask([{"seed": turn % 8}])
            pids.add(pid)
            assert alone.setdefault(turn % 8, number) == number
        batch = ask([{"seed": index % 8} for index in range(16)])
    assert [number for number, _ in batch] == [alone[index % 8] for index in range(16)]
    assert len(pids) == 2


def test_a_promotion_fails_no_request(url, shelf, store):
    load = Load(url)
    with load.going_on():
        until(lambda: load.versions["teller@1"] > 20, "load")
        shelf.promote("champion", 4)
        until(lambda: versions() == {"genloom.teller@4"}, "promoted")
        before = load.versions["teller@4"]
        until(lambda: load.versions["teller@4"] > before + 20, "answered")
    assert set(load.versions) == {"teller@1", "teller@4"}
    assert "teller@champion is answered by teller@4" in told(store)
    listed = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"]
    assert [each["version"] for each in listed if each["id"] == "teller"] == ["4"]


def test_a_killed_replica_fails_no_request(url):
    load = Load(url)
    until(lambda: running("teller@4") == 2, "two replicas")
    with load.going_on():
        kill("genloom.teller@4")
        until(lambda: running("teller@4") < 2, "noticed")
        until(lambda: running("teller@4") == 2, "replaced")


def test_a_version_that_failed_is_tried_again_only_when_a_person_changes_it(url, shelf, store):
    shelf.promote("candidate", 6)
    load = Load(url)
    with load.going_on():
        until(lambda: load.versions["teller@6"] > 10, "on trial")
    shares = load.versions["teller@6"] / sum(load.versions.values())
    assert shares < 0.5
    assert "canary teller@6" in told(store)


@pytest.mark.chaos
def test_a_killed_keeper_comes_back_and_goes_on(url, shelf):
    load = Load(url)
    with load.going_on():
        kill("genloom:Keeper")
        shelf.promote("champion", 6)
        until(lambda: versions() == {"genloom.teller@6"}, "promoted")
    assert set(load.versions) == {"teller@4", "teller@6"}
    assert running("teller@6") == 2
    # What happened before it was killed is known still.
    assert any("canary teller@3 is taken back" in text for _, text in launch.state().news)


def test_a_killed_gateway_is_back_with_all_that_is_served(url):
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        before = client.get("/v1/models").json()
        kill("genloom:Gateway")
        killed = time.monotonic()

        def answers():
            try:
                return client.get("/v1/models").json() == before
            except httpx.HTTPError:
                return False

        until(answers, "the gateway")
        print(f"\nthe gateway was away for {time.monotonic() - killed:.1f} s")


def test_a_model_that_nobody_asks_sleeps_and_wakes_when_somebody_does(url):
    until(lambda: not replicas("sleeper@1").get("RUNNING"), "asleep")
    load = Load(url)
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        load.ask(client, "sleeper")
    assert load.failures == []
    assert load.versions == {"sleeper@1": 1}
