"""One endpoint on Ray Serve, with a key, asked over HTTP."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil
import pytest
import ray
import serve_toys as toys

import genloom
from genloom.errors import EndpointError, RequestError, UnknownName
from genloom_platform.serve import keyring, keys, launch, presence
from genloom_platform.serve.launch import Source
from genloom_platform.serve.limits import Limits, Rate
from genloom_platform.serve.model import served
from genloom_platform.store import Store

KEY = "a-key-of-this-test-alone-4711"
SOURCES = [
    Source("drawer@1", toys.drawer, 1700000000),
    Source("counter@2", toys.counter, 1700000000),
    Source("brightness@3", toys.brightness, 1700000000),
    Source("teller@4", toys.teller, 1700000000),
]


launched_the_cluster = False


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store").as_uri())


@pytest.fixture(scope="module")
def url(store):
    """An endpoint of three models that asks for a key, and tells of itself in a store."""
    ray.cloudpickle.register_pickle_by_value(toys)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    global launched_the_cluster
    alone = launched_the_cluster = not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.VARIABLE, KEY)
        yield launch.start_sources(SOURCES, "127.0.0.1", port, store)
    launch.stop()
    assert presence.running(store) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
    if alone:
        ray.shutdown()


@pytest.fixture
def http(url):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        yield client


def test_a_request_is_answered_later_as_at_once(http, store):
    body = {"model": "drawer", "prompts": [{"seed": seed} for seed in range(20)]}
    wrong = {"model": "drawer", "prompts": [{"label": 55}]}
    assert http.post("/v1/generate?async=true", json=wrong).status_code == 422
    taken = http.post("/v1/generate?async=true", json=body)
    assert taken.status_code == 202, taken.text
    until = time.monotonic() + 60
    while (job := http.get(taken.headers["location"]).json())["status"] != "succeeded":
        assert job["status"] in ("queued", "running"), job
        assert time.monotonic() < until
        time.sleep(0.1)
    assert http.get(job["result"]).json() == http.post("/v1/generate", json=body).json()
    assert len(store.names(f"jobs/{job['id']}/samples")) == 20


def test_the_store_tells_which_of_its_models_are_served(url, store):
    (endpoint,) = presence.running(store)
    assert endpoint.url == url
    assert endpoint.models == ("drawer@1", "counter@2", "brightness@3", "teller@4")


@pytest.fixture
def models(url):
    return genloom.connect(url, key=KEY).models


def generate(http, model, *prompts):
    answer = http.post("/v1/generate", json={"model": model, "prompts": list(prompts)})
    assert answer.is_success, answer.text
    return [item["sample"] for item in answer.json()["samples"]]


def test_health_needs_no_key_and_all_else_does(url):
    assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok"}
    assert httpx.get(f"{url}/openapi.json", trust_env=False).status_code == 401
    for key in (None, "wrong", KEY + "x"):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.get(f"{url}/v1/models", headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert "Authorization: Bearer" in answer.json()["error"]["message"]


def test_a_seed_gives_its_sample_alone_in_a_batch_and_beside_others(http):
    alone = [generate(http, "drawer", {"seed": seed})[0] for seed in range(16)]
    assert generate(http, "drawer", *({"seed": seed} for seed in range(16))) == alone
    with ThreadPoolExecutor(16) as callers:
        beside = list(callers.map(lambda seed: generate(http, "drawer", {"seed": seed})[0], range(16)))
    assert beside == alone
    with_module = served(toys.drawer(), 0)
    local = with_module.compute(with_module.read([{"seed": seed} for seed in range(16)]))
    assert [genloom.Image.from_json(sample) for sample in alone] == local


def test_requests_that_come_while_a_batch_is_computed_share_the_next(http):
    """Also where they come far apart: a batch is closed when the model is free, not after a wait."""
    sizes: list[int] = []

    def one(delay_s: float, wait_s: float) -> None:
        time.sleep(delay_s)
        sizes.append(int(generate(http, "counter", {"wait_s": wait_s})[0]))

    pairs = [(0.0, 3.0), *((0.3 + index / 20, 0.1) for index in range(16))]
    callers = [threading.Thread(target=one, args=pair) for pair in pairs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(sizes) == [1] + [16] * 16


def test_a_large_request_is_computed_in_batches_of_64(http):
    assert generate(http, "counter", *[{}] * 256) == ["64"] * 256


def test_a_wrong_prompt_fails_no_other_request(http):
    def ask(label):
        return http.post(
            "/v1/generate", json={"model": "drawer", "prompts": [{"seed": 1, "label": label}]}
        )

    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(ask, [1, 55, 7, 8] * 4))
    for one, unknown, failing, refused in zip(*[iter(answers)] * 4, strict=True):
        assert [answer.status_code for answer in (one, unknown, failing, refused)] == [
            200,
            422,
            500,
            422,
        ]
        assert "give 0 to 9" in unknown.json()["error"]["message"]
        assert failing.json()["error"]["code"] == "model_failed"
        assert "secret" not in failing.text
        assert refused.json()["error"]["message"] == "prompts.0: label = 8: there is no eight; give 9"


def test_a_failure_of_a_lone_prompt_names_no_place_in_a_list(http):
    for path, prompt in (
        ("/v1/generate/drawer", {"seed": 1, "label": 7}),
        ("/v1/generate/teller?stream=true", {"seed": 1, "start": "fail0"}),
    ):
        error = http.post(path, json=prompt).json()["error"]
        assert " failed on this prompt (seed 1); " in error["message"]
        assert (error["param"], error["code"]) == (None, "model_failed")
        assert "prompts" not in error["message"]


def test_the_client_draws_and_predicts(models):
    assert list(models) == ["drawer", "counter", "brightness", "teller"]
    first, second = models["drawer"].generate(label=3, count=2)
    assert isinstance(first, genloom.Image)
    assert first != second
    assert models["counter"].generate(count=300)[-1] == genloom.Text("44")
    white = genloom.Image(np.full((4, 4, 3), 255, np.uint8))
    assert models["brightness"].predict(image=white) == [genloom.Value(value=1.0)]
    assert models["drawer"].generate([{"seed": 1}]) == models["drawer"].generate(seed=1, like=white)


def test_the_client_tells_what_was_wrong(url, models):
    with pytest.raises(UnknownName, match="'drawer'"):
        models["drawr"]
    with pytest.raises(EndpointError, match="give 0 to 9") as refusal:
        models["drawer"].generate(label=55)
    assert refusal.value.status == 422
    with pytest.raises(EndpointError, match="no key was sent") as refusal:
        list(genloom.connect(url).models)
    assert refusal.value.status == 401


def test_a_large_body_is_refused_while_it_arrives(url):
    def send(headers: dict[str, str], mebibytes: int) -> tuple[int, str]:
        """The answer to the start of a body that never ends."""
        connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
        connection.putrequest("POST", "/v1/generate")
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        for _ in range(mebibytes):
            connection.send(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]["code"]

    key = {"Authorization": f"Bearer {KEY}"}
    announced, chunked = {"Content-Length": str(1 << 40)}, {"Transfer-Encoding": "chunked"}
    assert send(announced, 0) == (401, "missing_api_key")
    assert send(chunked, 0) == (401, "missing_api_key")
    assert send(key | announced, 0) == (413, "body_too_large")
    assert send(key | chunked, 33) == (413, "body_too_large")


def test_the_key_is_in_no_process_that_was_started(url):
    if "RAY_ADDRESS" in os.environ or not launched_the_cluster:
        pytest.skip("the cluster was there before the key")
    mine = psutil.Process()
    started = mine.children(recursive=True)
    assert any("ServeReplica" in " ".join(process.cmdline()) for process in started)
    # Names alone: a failure must not print environments.
    holding = [each.name() for each in started if KEY in str([each.environ(), each.cmdline()])]
    assert holding == []


def test_a_second_endpoint_on_the_cluster_is_refused(url):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RequestError, match="serves an endpoint already"):
        launch.start_sources(SOURCES[:1], "127.0.0.1", port)
    assert httpx.get(f"{url}/healthz", trust_env=False).is_success


def test_openais_own_client_writes_draws_and_streams(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        asked = {"model": "teller", "prompt": "xyz", "max_tokens": 5, "seed": 2}
        assert client.completions.create(**asked).choices[0].text == "xyzxy"
        events = list(client.completions.create(**asked, stream=True))
        assert "".join(event.choices[0].text for event in events) == "xyzxy"
        drawn = client.images.generate(model="drawer", prompt="", extra_body={"seed": 1})
        assert genloom.Image.from_json(drawn.data[0].b64_json).array.shape == (8, 8, 1)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()


def test_a_stream_comes_piece_by_piece_and_its_end_is_the_whole_text(models):
    began = time.monotonic()
    pieces = models["teller"].stream(start="slow", max_chars=40, seed=2)
    first = next(pieces)
    assert time.monotonic() - began < 1.5
    text = first.text + "".join(piece.text for piece in pieces)
    assert time.monotonic() - began > 2
    assert text == "slow" * 10
    assert models["teller"].generate(start="slow", max_chars=40, seed=2) == [genloom.Text(text)]


def test_a_caller_who_goes_in_mid_stream_frees_the_model(http, models):
    """The toy tells how many of its streams are open in its process."""

    def open_streams() -> str:
        return models["teller"].generate(start="open?")[0].text

    streams = [models["teller"].stream(start="slow", max_chars=1000) for _ in range(4)]
    for stream in streams:
        next(stream)
    assert open_streams() == "4"
    for stream in streams:
        stream.close()
    deadline = time.monotonic() + 10
    while (left := open_streams()) != "0" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == "0"


def test_a_stream_of_a_wrong_or_failing_prompt_has_a_status(http):
    for prompt, status in (({"max_chars": -1}, 422), ({"start": "fail0"}, 500)):
        answer = http.post("/v1/generate/teller?stream=true", json=prompt)
        assert answer.status_code == status, answer.text
    answer = http.post("/v1/generate/teller?stream=true", json={"start": "fail3"})
    assert answer.status_code == 200
    assert "model_failed" in answer.text
    assert "secret" not in answer.text
    assert "[DONE]" not in answer.text


def test_a_named_key_counts_within_its_limits_until_it_is_revoked(url, store):
    limits = Limits(rate=Rate.read("3/h"))
    headers = {"Authorization": f"Bearer {keyring.add(store, 'team', limits)}"}
    statuses: list[int] = []

    def until(status: int) -> httpx.Response:
        deadline = time.monotonic() + 20
        while True:
            answer = httpx.get(f"{url}/v1/models", headers=headers, trust_env=False)
            statuses.append(answer.status_code)
            if answer.status_code == status:
                return answer
            assert time.monotonic() < deadline, statuses
            time.sleep(0.2)

    until(200)
    limited = until(429)
    assert statuses.count(200) == 3
    assert 1190 <= int(limited.headers["retry-after"]) <= 1200
    assert "'team' may send 3 requests an hour" in limited.json()["error"]["message"]
    keyring.revoke(store, "team")
    assert until(401).json()["error"]["code"] == "wrong_api_key"


def test_an_answer_has_one_id(http):
    assert http.get("/v1/models", headers={"X-Request-ID": "a-1"}).headers["x-request-id"] == "a-1"
    assert len(http.get("/v1/models").headers.get_list("x-request-id")) == 1


def test_rays_metrics_ports_show_the_endpoints_figures(http):
    generate(http, "drawer", *[{}] * 3)
    pages = [f"http://{n['NodeManagerAddress']}:{n['MetricsExportPort']}/metrics" for n in ray.nodes()]
    wanted = [
        'ray_genloom_serve_requests_total{.*model="drawer@1".*route="/v1/generate".*status="200"',
        'ray_genloom_serve_first_byte_seconds_bucket{.*model="drawer@1"',
        'ray_genloom_serve_batch_size_sum{.*model="drawer@1"',
        'ray_genloom_serve_samples_total{.*model="drawer@1"',
        "ray_genloom_serve_in_flight{",
        'ray_genloom_serve_queue{.*model="drawer@1"',
        'ray_genloom_serve_refused_total{.*reason="wrong_api_key"',
    ]
    httpx.get(f"{http.base_url}/v1/models", headers={"Authorization": "Bearer no"}, trust_env=False)
    deadline = time.monotonic() + 60
    while True:
        text = "\n".join(httpx.get(page, trust_env=False).text for page in pages)
        missing = [each for each in wanted if not re.search(each, text)]
        if not missing:
            return
        assert time.monotonic() < deadline, missing
        time.sleep(1)


def test_a_request_whose_model_dies_is_answered_when_it_is_back(http):
    """Last in this file with this endpoint."""
    if not launched_the_cluster:
        pytest.skip("the processes of another's cluster are not ours to end")
    models = [
        each
        for each in psutil.Process().children(recursive=True)
        if "counter@2" in " ".join(each.cmdline())
    ]
    ending = threading.Timer(0.5, lambda: [each.kill() for each in models])
    ending.start()
    answer = http.post("/v1/generate", json={"model": "counter", "prompts": [{"wait_s": 5}]})
    assert answer.is_success, answer.text
    assert [each.is_running() for each in models] == [False]
    assert generate(http, "counter", {}) == ["1"]


@pytest.mark.e2e
def test_nothing_is_printed_and_a_model_that_cannot_be_loaded_is_told_in_one_line():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import ray, time
import serve_toys as toys
from genloom.errors import GenloomError
from genloom_platform.serve import launch
ray.cloudpickle.register_pickle_by_value(toys)
try:
    launch.start_sources([launch.Source("drawer@9", toys.broken, 0)], "127.0.0.1", {port})
except GenloomError as error:
    print(error)
print(launch.start_sources([launch.Source("counter@2", toys.counter, 0)], "127.0.0.1", {port}))
launch.stop()
time.sleep(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "drawer@9 cannot be served: the weights are corrupt; train it again",
        f"http://127.0.0.1:{port}",
    ]
