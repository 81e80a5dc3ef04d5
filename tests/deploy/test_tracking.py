"""The tracking server, started with the words of its manifest."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from manifests import named, overlay

from genloom.errors import StoreError
from genloom_platform.models import database
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store

START_TIMEOUT_S = 240


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(address, user, password) of MLflow as the pod runs it, but on SQLite and a port of this machine."""
    folder = tmp_path_factory.mktemp("mlflow")
    (container,) = named(overlay("cpu"), "Deployment")["spec"]["template"]["spec"]["containers"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user, password = "genloom", secrets.token_hex(16)
    page = (Path(__file__).parents[2] / "deploy/README.md").read_text()
    ini = re.search(r"printf '(\[mlflow\].*?)'", page)[1].replace("\\n", "\n")
    ini += re.search(r"echo '(.*)' >> basic_auth.ini", page)[1]
    (folder / "basic_auth.ini").write_text(ini % f"sqlite:///{folder}/users.db")
    given = {
        "GENLOOM_STORE": folder.as_uri(),
        "database-uri": f"sqlite:///{folder}/mlflow.db",
        "password": password,
        "session-key": secrets.token_hex(32),
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "HOME": str(folder),
    }
    _ = Registry(Store(folder.as_uri())).client  # makes the database sooner than MLflow would
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    for variable in container["env"]:
        name, value = variable["name"], variable.get("value", "")
        if "valueFrom" in variable:
            value = given[variable["valueFrom"]["secretKeyRef"]["key"]]
        environment[name] = given.get(name, value.replace("$(GENLOOM_STORE)", given["GENLOOM_STORE"]))
    words = [*container["command"], *container["args"]]
    words = [re.sub(r"^(--port)=5000", rf"\1={port}", word) for word in words]
    words = [word.replace("--host=0.0.0.0", "--host=127.0.0.1") for word in words]
    # The server answers to the names that it is told alone; here it has a port of its own.
    words = [word.replace(",localhost:5000", f",localhost:5000,localhost:{port}") for word in words]
    words[0] = str(Path(sys.executable).parent / words[0])
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            words, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    yield f"http://127.0.0.1:{port}", user, password, process, folder / "log"
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


def answer(url, path, host="mlflow:5000", **options):
    return httpx.request(
        "GET", url + path, headers={"Host": host}, trust_env=False, timeout=20, **options
    )


@pytest.fixture(scope="module")
def address(server):
    url, _, _, process, log = server
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if answer(url, "/health", "localhost:5000").status_code == 200:
                return url
        except httpx.HTTPError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


def test_only_health_answers_without_the_password(address, server):
    _, user, password, *_ = server
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert answer(address, path).status_code == 401
    assert answer(address, path, auth=(user, "wrong")).status_code == 401
    assert answer(address, path, auth=(user, password)).status_code == 200
    assert answer(address, "/").status_code == 401


def test_it_answers_to_the_names_of_its_service_alone(address, server):
    _, user, password, *_ = server
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    for host in ("mlflow:5000", "mlflow.genloom.svc.cluster.local:5000"):
        assert answer(address, path, host, auth=(user, password)).status_code == 200
    assert answer(address, path, "elsewhere.example:5000", auth=(user, password)).status_code == 403


@pytest.mark.parametrize(("given", "words"), [
    ({}, "asks for a user and a password, and this machine has none; set MLFLOW_TRACKING_USERNAME"),
    ({"MLFLOW_TRACKING_USERNAME": "genloom", "MLFLOW_TRACKING_PASSWORD": "not-the-right-one"},
     "refuses the password of the user genloom: it is wrong, or no longer counts"),
])  # fmt: skip
def test_a_wrong_password_and_a_missing_one_are_told_apart(
    address, monkeypatch, tmp_path, given, words
):
    monkeypatch.setenv("GENLOOM_TRACKING", address.replace("127.0.0.1", "localhost"))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=words) as refused:
        database.Client(Store(tmp_path.as_uri()))
    assert "not-the-right-one" not in str(refused.value)


def test_a_name_that_the_server_does_not_answer_to_is_told(address, monkeypatch, tmp_path):
    monkeypatch.setenv("GENLOOM_TRACKING", address)
    with pytest.raises(
        StoreError, match=r"does not answer to the name 127\.0\.0\.1:\d+; .*--allowed-hosts"
    ):
        database.Client(Store(tmp_path.as_uri()))


def test_the_password_stands_in_no_log_and_no_command_line(address, server):
    _, _, password, process, log = server
    assert password not in log.read_text()
    assert password not in Path(f"/proc/{process.pid}/cmdline").read_text()


def test_the_driver_of_the_database_that_the_readme_names_is_installed(root):
    from sqlalchemy import create_engine

    page = (root / "deploy/README.md").read_text()
    address = re.search(r"printf '(postgresql\S+)'", page)[1] % "password"
    assert create_engine(address).dialect.name == "postgresql"
    database = named(overlay("cpu"), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["env"]
    told = {variable["name"]: variable["value"] for variable in database}
    assert (
        address == f"postgresql://{told['POSTGRES_USER']}:password@postgres:5432/{told['POSTGRES_DB']}"
    )
