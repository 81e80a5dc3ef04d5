"""What a cluster shows: to strangers nothing but its health, and its secrets to nobody."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import knocks
import netns
import pytest

pytestmark = pytest.mark.hosts

HEALTH = {"/api/healthz", "/api/gcs_healthz", "/api/local_raylet_healthz", "/-/healthz", "/healthz"}
LOGIN = "/"
"""Ray's page that asks for the token: the same for everyone."""
SILENT = 0
CLOSED = {"UNAUTHENTICATED", "UNIMPLEMENTED"}
NEEDED = {netns.JOBS, netns.PORT, 10001}
"""The head's job server, state and Ray's client."""
WRONG = "0" * 64
STRANGER = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "RAY_AUTH_MODE": "disabled"}
"""An environment in which no token can be found."""


def sockets(host):
    """(address, port) of everything that listens on a host."""
    status, listed = host.run(["ss", "-Hltn"])
    assert status == 0, listed
    found = [line.split()[3].rpartition(":") for line in listed.splitlines()]
    return sorted({(address.strip("[]"), int(port)) for address, _, port in found})


def is_loopback(address):
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


@pytest.fixture(scope="module")
def opened(lab, plain):
    """host → its ports that are bound to more than loopback, those of workers that have trained among them."""
    return {
        host: sorted({port for address, port in sockets(host) if not is_loopback(address)})
        for host in lab.cluster
    }


def knocked(opened, tokens, lab=None, gently=False):
    """(address, port, token) → what it answers: to the laptop, or to a machine outside of all."""
    places = [(host.address, port) for host, ports in opened.items() for port in ports]
    asked = [(*place, token, gently) for place in places for token in tokens]
    argv = [sys.executable, knocks.__file__]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    if lab:
        process = lab.laptop.host.spawn(argv, STRANGER, **pipes)
    else:
        process = subprocess.Popen(argv, env=STRANGER, text=True, **pipes)
    output, errors = process.communicate(json.dumps(asked), timeout=240)
    assert process.returncode == 0, errors
    return {each[:3]: answer for each, answer in zip(asked, json.loads(output), strict=True)}


def told(answers):
    """What strangers are told that is not health."""
    for (address, port, token), answer in answers.items():
        who = f"to {'a wrong token' if token else 'no token'}, {address}:{port}"
        for asked, (status, body) in answer["http"].items():
            method, path = asked.split()
            if path in HEALTH or status in (SILENT, 401, 403, 404, 405):
                continue
            page = not body or body.startswith("<!doctype html>")
            if path == LOGIN and method in ("GET", "HEAD") and page:
                continue
            yield f"{who} {asked}: {status} {body[:80]}"
        for method, status in answer["grpc"].items():
            if status not in CLOSED and not method.startswith("/grpc.health."):
                yield f"{who} {method}: {status}"


@pytest.mark.parametrize("outside", [False, True], ids=["from the laptop", "from outside"])
def test_strangers_are_told_nothing_but_health(lab, opened, outside):
    assert set(opened[lab.cluster[0]]) >= NEEDED
    answers = knocked(opened, ["", WRONG], None if outside else lab)
    assert not list(told(answers))
    # Every port that is still there speaks one of the two: nothing listens that was not asked in its own words.
    silent = {
        place[:2] for place, answer in answers.items() if not answer["http"] and not answer["grpc"]
    }
    assert not silent & {(host.address, port) for host in lab.cluster for _, port in sockets(host)}
    assert len({place[:2] for place in answers} - silent) > 3 * len(NEEDED)


def test_the_right_token_opens(lab, opened):
    head, token = lab.cluster[0], lab.token.read_text()
    answers = knocked({head: [netns.JOBS, netns.PORT]}, [token], lab, gently=True)
    http = answers[head.address, netns.JOBS, token]["http"]
    assert http["GET /api/version"][0] == http["GET /api/jobs/"][0] == 200
    grpc = answers[head.address, netns.PORT, token]["grpc"]
    assert grpc["/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"] == "OK"


class Watch:
    """Looks at the command lines and environments of all processes, again and again, for some words."""

    def __init__(self, words):
        self._words = words
        self.commands, self.environments, self.seen = set(), set(), 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    command, environment = (
                        (process / name).read_bytes() for name in ("cmdline", "environ")
                    )
                except OSError:
                    continue
                self.seen += 1
                for name, word in self._words.items():
                    if word.encode() in command:
                        self.commands.add((name, command[:100]))
                    if word.encode() in environment:
                        self.environments.add((name, command.split(b"\0")[0][-40:].decode()))


@pytest.fixture(scope="module")
def secret(lab):
    """name → value of everything that opens something."""
    made = lab.services.environment
    return {
        "the token": lab.token.read_text(),
        "the store's key": made["AWS_SECRET_ACCESS_KEY"],
        "MLflow's password": made["MLFLOW_TRACKING_PASSWORD"],
    }


@pytest.fixture(scope="module")
def watched(lab, secret, plain):
    """What all processes showed while a job ran."""
    with Watch(secret) as watch:
        status, output = lab.laptop("genloom", "submit", "--follow", "--", "data", "list")
    assert status == 0, output
    assert "digits" in output
    for name, word in secret.items():
        assert word not in output, name
    return watch


def test_no_secret_stands_in_a_command_line(watched):
    assert watched.seen > 100
    assert not watched.commands


def test_the_token_is_in_no_environment(watched):
    # Keys of the store and of MLflow are given to machines so; the token lies in a file.
    names = {name for name, _ in watched.environments}
    assert "the store's key" in names  # what is looked for would be found
    assert "the token" not in names


def holding(word, *folders):
    """The files below folders that hold a word."""
    argv = ["grep", "-rlaF", "-f", "-", "--", *map(str, folders)]
    return subprocess.run(argv, input=word, capture_output=True, text=True).stdout.splitlines()


def test_no_secret_lies_in_logs_the_store_checkpoints_or_mlflow(lab, secret, watched, plain):
    assert plain[0] == 0, plain[1]
    services = lab.services
    assert list(services.objects.glob("runs/plain/checkpoints/*"))
    logs = [host.folder for host in lab.cluster]
    assert holding("raylet", *logs)  # what is looked for would be found
    written = [*logs, services.objects, services._folder / "mlflow.log", services._folder / "s3.log"]
    for name, word in secret.items():
        assert not holding(word, *written), name
        found = [path for path in holding(word, services._database) if not path.endswith("/password")]
        assert not found, name
        for path in ("experiments/search?max_results=10", "registered-models/search?max_results=100"):
            assert word not in json.dumps(services.mlflow(path)), name
    files = [lab.token, lab.laptop.token]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def doctor(lab):
    """What the doctor finds, by check and machine."""
    status, output = lab.laptop("genloom", "doctor", "--cluster", "lab", "--json")
    report = json.loads(output.splitlines()[-1])
    return status, {(each["check"], each["where"]): each for each in report["findings"]}


def test_doctor_finds_the_cluster_well_from_a_laptop_with_the_client_alone(lab):
    _, found = doctor(lab)
    wrong = {check: each for (check, _), each in found.items() if not each["well"]}
    assert not wrong.keys() - {"disk", "shared memory"}, wrong  # those are this machine's
    head, *others = (host.address for host in lab.cluster)
    names = [f"{head} (head)", *others]
    for check in ("token", "store", "tracking", "secrets", "ports", "GPUs", "disk"):
        assert {(check, name) for name in names} <= found.keys(), check
    for name in names:
        assert found["tracking", name]["seen"] == f"{lab.services.tracking} answers"
        assert re.match(r"none of \d+ answers without", found["ports", f"{name}, from here"]["seen"])
    assert ("versions", ", ".join(names)) in found
    assert {("clock", name) for name in others} <= found.keys()


@pytest.fixture
def cut_off(lab):
    """A host that does not reach the store any more."""
    host, to = lab.cluster[1], lab.services.tracking.split("//")[1].partition(":")[0]
    route = ["ip", "route", "{}", "unreachable", f"{to}/32"]
    assert host.run([word.format("add") for word in route])[0] == 0
    yield host
    assert host.run([word.format("del") for word in route])[0] == 0


@pytest.mark.chaos
def test_a_host_that_does_not_reach_the_store_is_named_by_doctor_and_before_a_training(lab, cut_off):
    status, found = doctor(lab)
    assert status == 1
    wrong = {place for place, each in found.items() if not each["well"]}
    assert wrong >= {("store", cut_off.address), ("tracking", cut_off.address)}
    assert not [
        where for check, where in wrong if check in ("store", "tracking") and where != cut_off.address
    ]
    assert "cannot be reached" in found["store", cut_off.address]["seen"]
    began = time.monotonic()
    status, output = lab.laptop(
        "genloom", "submit", "--id", "astray", "--follow", "--", "train", "run.yaml", "--workers", "2"
    )
    assert status == 1
    assert f"the store cannot be used from {cut_off.address}" in output
    assert "Traceback" not in output
    assert time.monotonic() - began < 60
    assert not (lab.services.objects / "runs" / "astray" / "run.json").exists()
