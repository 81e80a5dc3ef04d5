"""MLflow's pages on a store: on this machine alone, for as long as the command runs."""

import os
import shutil
import signal
import socket
import subprocess

import httpx
import psutil
import pytest

from genloom_platform.models.registry import Registry
from genloom_platform.observe import pages
from genloom_platform.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a run in its registry."""
    made = Store((tmp_path_factory.mktemp("pages") / "store").as_uri())
    registry = Registry(made)
    run = registry.client.create_run(registry.experiment(), run_name="a-run-to-see")
    registry.client.log_metric(run.info.run_id, "loss", 0.5)
    registry.client.create_registered_model("a-model-to-see")
    return made


@pytest.fixture(scope="module")
def command(store):
    """`genloom ui`, and what it said."""
    process = subprocess.Popen(
        ["genloom", "ui"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GENLOOM_STORE": store.url},
    )
    lines = [process.stdout.readline() for _ in range(3)]
    yield process, lines
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    psutil.wait_procs(children, timeout=30)
    assert not [child for child in children if child.is_running()]


@pytest.fixture(scope="module")
def url(command, store):
    _, lines = command
    assert store.url in lines[0]
    assert "Ctrl-C ends it" in lines[0]
    return lines[0].split()[-4].rstrip(";")


def test_the_pages_show_the_runs_and_models_of_the_store(url):
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert "MLflow" in client.get("/").text
        body = {"experiment_ids": ["1"]}
        found = client.post("/api/2.0/mlflow/runs/search", json=body).json()["runs"]
        assert [run["info"]["run_name"] for run in found] == ["a-run-to-see"]
        models = client.get("/api/2.0/mlflow/registered-models/search").json()["registered_models"]
        assert [model["name"] for model in models] == ["a-model-to-see"]


def test_they_listen_on_loopback_and_answer_to_no_other_name_or_origin(url, command):
    process, _ = command
    port = int(url.rpartition(":")[2])
    everyone = [process, *psutil.Process(process.pid).children(recursive=True)]
    listening = [
        each.laddr
        for one in everyone
        for each in psutil.Process(one.pid).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert {(each.ip, each.port) for each in listening} == {("127.0.0.1", port)}
    with httpx.Client(base_url=url, trust_env=False) as client:
        path = "/api/2.0/mlflow/experiments/create"
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        headers = {"Origin": "https://evil.example"}
        assert client.post(path, json={"name": "x"}, headers=headers).status_code == 403
        assert client.get("/ajax-api/3.0/mlflow/assistant/config").status_code == 404


def test_a_taken_port_is_told_and_another_is_found(store, url):
    port = url.rpartition(":")[2]
    done = subprocess.run(
        ["genloom", "--store", store.url, "ui", "--port", port], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"port = {port}: it is taken" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert pages.free_port(None) not in (int(port), taken.getsockname()[1])


def test_a_tracking_server_has_pages_of_its_own(genloom_command):
    done = genloom_command("ui", GENLOOM_TRACKING="https://mlflow.acme.example")
    assert done.returncode == 0
    assert "https://mlflow.acme.example has the pages" in done.stdout


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
@pytest.mark.parametrize(("line", "words"), [(1, "a-run-to-see"), (2, "a-model-to-see")])
def test_a_browser_shows_runs_and_models(command, line, words):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000"]
    page = command[1][line].split()[-1]
    done = subprocess.run(
        ["chromium", *options, "--dump-dom", page], capture_output=True, text=True, timeout=90
    )
    assert words in done.stdout
