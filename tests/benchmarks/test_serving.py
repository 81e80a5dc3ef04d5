"""Endpoints: requests a second, time to an answer and streamed text, beside the bare loop and peers."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from benchmarks import serving_load, serving_models, tables

from genloom_platform import cluster
from genloom_platform.serve import launch
from genloom_platform.serve.launch import Source

pytestmark = pytest.mark.bench

SECONDS = float(os.environ.get("GENLOOM_BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("GENLOOM_BENCH_ROUNDS", "3"))
CALLERS = 64
CHARS = 512
FEW_CHARS = 64
"""Of a text from transformers' serving, which is slow on a CPU."""
LITSERVE = Path(
    os.environ.get("GENLOOM_BENCH_LITSERVE") or Path.home() / ".cache/genloom-bench-litserve"
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ours(model):
    """Our endpoint, and a request to it."""
    source = Source(f"{model}@1", serving_models.MODELS[model], 0)
    url = launch.start_sources([source], "127.0.0.1", free_port())
    try:
        yield f"{url}/v1/generate", lambda seed: {"prompts": [{"seed": seed}]}
    finally:
        launch.stop()


@contextmanager
def behind_haproxy(model):
    """Our endpoint where HAProxy takes the connections, in a Ray cluster of its own."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("serving_haproxy.py")), model, str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        while not (line := server.stdout.readline()).startswith("answers"):
            assert line, "the endpoint behind HAProxy did not start"
        yield f"{line.split()[-1]}/v1/generate", lambda seed: {"prompts": [{"seed": seed}]}


@contextmanager
def default(model):
    """A deployment of Ray Serve as its guide has it."""
    from benchmarks import serving_default
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(serving_default.Default.bind(serving_models.MODELS[model]), name="default")
    try:
        yield f"http://127.0.0.1:{port}/ask", lambda seed: {"seed": seed}
    finally:
        serve.shutdown()


@contextmanager
def litserve(model):
    """LitServe, in an environment that is made once."""
    if not LITSERVE.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(LITSERVE)]
        subprocess.run([*pip, "--no-deps", "litserve", "pyzmq"], check=True)
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("serving_litserve.py")), model, str(port)]
    paths = [str(LITSERVE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _await(f"{url}/health")
        yield f"{url}/predict", lambda seed: {"seed": seed}
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its workers would outlive it
        server.wait()


@contextmanager
def transformers(folder):
    """Transformers' own serving of a decoder as large as the text model."""
    script = Path(__file__).with_name("serving_transformers.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", str(folder), "--continuous-batching", "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    server = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _await(f"{url}/health")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _await(url):
    until = time.monotonic() + 120
    while True:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            assert time.monotonic() < until
        time.sleep(0.2)


def bare(model):
    """Samples a second of the loop without a server, 64 at a time, and milliseconds of one alone."""
    loaded = serving_models.MODELS[model]()

    def once(count, at):
        prompts = [loaded.trainable.Prompt(seed=at + index) for index in range(count)]
        begun = time.perf_counter()
        with torch.inference_mode():
            loaded.trainable.generate(loaded.module, prompts)
        return time.perf_counter() - begun

    once(64, 0)
    many = statistics.median(once(64, 64 * turn) for turn in range(20))
    return 64 / many, statistics.median(once(1, turn) for turn in range(50)) * 1e3


@pytest.fixture(scope="module", autouse=True)
def ray_here():
    import ray

    cluster.connect(2)
    ray.cloudpickle.register_pickle_by_value(serving_models)
    yield
    ray.shutdown()


@pytest.mark.parametrize("model", ["small", "large"])
def test_requests_a_second(model):
    contenders = {
        "genloom": ours,
        "genloom behind HAProxy": behind_haproxy,
        "LitServe": litserve,
        "Ray Serve, default": default,
    }
    many = {name: [] for name in contenders}
    alone = {name: [] for name in contenders}
    limits = []
    for _ in range(ROUNDS):
        limits.append(bare(model))
        for name, contender in contenders.items():
            with contender(model) as (url, body):
                many[name].append(serving_load.asked(url, body, CALLERS, SECONDS))
                alone[name].append(serving_load.asked(url, body, 1, SECONDS / 2))
    limit, call_ms = (statistics.median(each) for each in zip(*limits, strict=True))
    rate = {name: statistics.median(load.per_s for load in loads) for name, loads in many.items()}
    rows = [["bare loop, 64 at a time", f"{limit:,.0f}", "1.00", "", f"{call_ms:.2f}", "", ""]]
    for name, loads in many.items():
        one_ms = statistics.median(load.median_ms for load in alone[name])
        late_ms = statistics.median(load.late_ms for load in loads)
        failed = sum(load.failed for load in loads)
        ratio = rate["genloom"] / rate[name]
        rows.append([name, f"{rate[name]:,.0f}", f"{rate[name] / limit:.2f}", f"{ratio:.2f}",
                     f"{one_ms:.1f}", f"{late_ms:,.0f}", str(failed)])  # fmt: skip
    columns = [
        "",
        "requests/s",
        "of the bare loop",
        "genloom's, times",
        "one alone, ms",
        "99 %, ms",
        "failed",
    ]
    tables.show(f"{model}: {CALLERS} callers", columns, rows, f"{ROUNDS} rounds in turns, medians")


def test_streamed_text(tmp_path):
    loaded = serving_models.writer()
    prompt = loaded.trainable.Prompt

    def loop(callers):
        prompts = [prompt(start="a", max_chars=CHARS, seed=seed) for seed in range(callers)]
        begun = time.perf_counter()
        with torch.inference_mode():
            if callers == 1:
                stream = loaded.trainable.stream(loaded.module, prompts[0])
                next(stream)
                first = time.perf_counter() - begun
                list(stream)
            else:
                first = 0.0
                loaded.trainable.generate(loaded.module, prompts)
        return first * 1e3, callers * CHARS / (time.perf_counter() - begun)

    rows = []
    with ours("writer") as (url, _):
        base = url.removesuffix("/v1/generate")
        for callers in (1, 16):
            bares, theirs = [], []
            for _ in range(ROUNDS * 3):
                bares.append(loop(callers))
                theirs.append(serving_load.written(base, "writer", CHARS, callers))
            first, per_s = (statistics.median(each) for each in zip(*bares, strict=True))
            ours_first = statistics.median(each.first_ms for each in theirs)
            ours_per_s = statistics.median(each.chars_per_s for each in theirs)
            rows.append(
                [f"{callers} at once, bare loop", f"{first:.1f}" if first else "", f"{per_s:,.0f}", ""]
            )
            rows.append([f"{callers} at once, streamed", f"{ours_first:.1f}", f"{ours_per_s:,.0f}",
                         f"{ours_per_s / per_s:.2f}"])  # fmt: skip
    with transformers(tmp_path / "decoder") as url:
        for callers in (1, 16):
            serving_load.written(
                url, str(tmp_path / "decoder"), FEW_CHARS, callers
            )  # the first is slow
            peer = serving_load.written(url, str(tmp_path / "decoder"), FEW_CHARS, callers)
            rows.append(
                [
                    f"{callers} at once, transformers serve",
                    f"{peer.first_ms:.1f}",
                    f"{peer.chars_per_s:,.0f}",
                    "",
                ]
            )
    tables.show(
        f"text: {CHARS} characters each", ["", "first, ms", "characters/s", "of the bare loop"], rows
    )
