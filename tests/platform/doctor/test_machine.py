"""What a machine sees of itself."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import HTTPServer

import pytest
from answering import getting

from genloom_platform import certificates
from genloom_platform.doctor import gpus, machine, marks, nodes, packages, ports
from genloom_platform.doctor.findings import Port
from genloom_platform.store import Store

SMI = """#!/bin/sh
[ "$1" = --query-gpu=name,driver_version ] || exit 2
{body}
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi on the path that does what it is told to."""

    def put(body):
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(SMI.format(body=body))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")

    return put


def test_a_machine_without_gpus_is_well():
    found, count, versions = gpus.look()
    assert (found.well, found.seen, count, versions) == (True, "none", 0, {})


def test_gpus_that_torch_does_not_see_are_told_with_the_driver(smi):
    smi("echo 'NVIDIA H100, 580.65.06'; echo 'NVIDIA H100, 580.65.06'")
    found, count, versions = gpus.look()
    assert (found.well, count, versions) == (False, 2, {})
    assert "2 (NVIDIA H100), driver 580.65.06" in found.seen
    assert "has no CUDA and sees 0" in found.seen
    assert "install a build of torch" in found.remedy


def test_a_driver_that_does_not_answer_is_told(smi):
    smi("echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9")
    found, count, _ = gpus.look()
    assert (found.well, count) == (False, 0)
    assert "could not communicate with the driver" in found.seen


def test_gpus_whose_memory_others_use_are_no_fault():
    told = {
        "torch": "2",
        "CUDA": "13.0",
        "NCCL": "2.28",
        "count": 1,
        "fault": "OutOfMemoryError: CUDA out of memory",
    }
    assert gpus._verdict(["H100"], "580", told).well
    broken = gpus._verdict(["H100"], "580", {**told, "fault": "RuntimeError: NCCL Error 2"})
    assert not broken.well
    assert "NCCL_DEBUG=INFO" in broken.remedy


def test_too_little_room_is_told_with_its_remedy(tmp_path):
    assert machine.shared_memory(1).well
    small = machine.shared_memory(1 << 60)
    assert not small.well
    assert "enlarge /dev/shm" in small.remedy
    assert machine.disk(str(tmp_path)).seen.startswith(tuple("0123456789"))


@pytest.mark.parametrize(("mode", "permissions", "there", "address", "words"), [
    ("token", 0o600, True, True, ""),
    ("token", 0o644, True, True, "chmod 600"),
    ("token", 0o600, False, True, "give this machine the token"),
    ("token", 0o600, False, False, ""),
    ("disabled", 0o600, True, True, "RAY_AUTH_MODE=token"),
])  # fmt: skip
def test_a_token_is_one_that_its_owner_alone_can_read(
    tmp_path, monkeypatch, mode, permissions, there, address, words
):
    path = tmp_path / "token"
    if there:
        path.write_text("t" * 32)
        path.chmod(permissions)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = machine.token()
    assert found.well == (not words)
    assert words in found.remedy
    assert "t" * 32 not in found.seen


def test_a_certificate_that_soon_counts_no_more_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    assert machine.certificate() == []
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("RAY_TLS_SERVER_CERT", str(tmp_path / "cert.pem"))
    (found,) = machine.certificate()
    assert (found.well, "cannot be read" in found.seen) == (False, True)
    certificates.make(tmp_path, ["10.0.0.5"])
    (found,) = machine.certificate()
    assert found.well
    monkeypatch.setattr(machine, "SOON_DAYS", certificates.MACHINES_DAYS)
    (found,) = machine.certificate()
    assert not found.well
    assert "genloom cluster down" in found.remedy


def test_a_tracking_server_that_is_away_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("GENLOOM_STORE", tmp_path.as_uri())
    monkeypatch.setenv("GENLOOM_TRACKING", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = machine.tracking()
    assert not found.well
    assert "does not answer" in found.seen
    assert "secret" not in found.seen
    assert "see that it runs" in found.remedy


def test_a_secret_of_the_profile_that_a_machine_lacks_is_named(monkeypatch):
    monkeypatch.setenv("GENLOOM_SECRETS", "HOME NOT_THERE")
    (found,) = nodes.missing_secrets()
    assert (found.well, found.seen) == (False, "no NOT_THERE in the environment")
    monkeypatch.setenv("GENLOOM_SECRETS", "HOME")
    assert nodes.missing_secrets()[0].well
    monkeypatch.delenv("GENLOOM_SECRETS")
    assert nodes.missing_secrets() == []


def test_a_store_that_another_machine_does_not_share_is_told(tmp_path):
    head, other = (Store((tmp_path / name).as_uri()) for name in ("head", "other"))
    assert marks.leave(head, "marks").well
    assert marks.check(head, "marks", "10.0.0.2").well
    found = marks.check(other, "marks", "10.0.0.2")
    assert not found.well
    assert "what the head wrote" in found.seen
    assert "mount one folder" in found.remedy
    marks.clear(other, "marks")
    assert not (tmp_path / "other" / "marks").exists()


def test_a_store_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENLOOM_STORE", (tmp_path / "file" / "store").as_uri())
    for found in (marks.leave(Store(), "m"), marks.check(Store(), "m", "10.0.0.2"), machine.store()):
        assert not found.well
        assert "cannot write" in found.seen
        assert "rights and free space" in found.remedy


def test_a_store_in_s3_that_cannot_be_reached_is_told_at_once(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    found = marks.check(Store("s3://bucket/team"), "marks", "10.0.0.2")
    assert time.monotonic() - began < 5
    assert not found.well
    assert (
        "http://127.0.0.1:9, where s3://bucket/team lies, cannot be reached: Connection refused"
        in found.seen
    )
    assert "AWS_ENDPOINT_URL" in found.remedy


def test_a_client_of_clusters_is_well_without_engines(monkeypatch):
    without = set(packages.ENGINES)
    monkeypatch.setattr(packages, "_version", lambda name: "" if name in without else "1")
    assert packages.is_client()
    assert "client of clusters" in packages.packages(client=True).seen
    without.discard("torch")  # a plugin has brought it
    assert packages.is_client()
    without -= {"pyarrow", "deepspeed"}
    assert not packages.is_client()
    assert packages.packages(client=True).well
    assert packages.packages(client=False).remedy == "pip install mlflow"


class Server(HTTPServer):
    """A server that answers everyone alike."""

    def __init__(self, status, body=b""):
        super().__init__(("127.0.0.1", 0), getting(lambda path: body, status))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return Port(number=self.server_port, process="/opt/ray/server")


def test_a_port_that_answers_to_strangers_is_told_and_a_closed_one_is_not():
    opened, closed = Server(200), Server(401)
    (found,) = ports.check("a", "127.0.0.1", [opened.port, closed.port], stranger=False)
    assert not found.well
    assert f"port {opened.server_port} (/opt/ray/server) answers without a credential" in found.seen
    assert "firewall" in found.remedy
    (found,) = ports.check("a", "127.0.0.1", [closed.port], stranger=True)
    assert (found.well, found.seen) == (True, "none of 1 answers without a credential")
    for server in (opened, closed):
        server.shutdown()


def test_metrics_are_for_the_cluster_and_not_for_strangers():
    metrics = Server(200, b"# HELP ray_tasks\n")
    (found,) = ports.check("a", "127.0.0.1", [metrics.port], stranger=False)
    assert found.well
    assert f"but for metrics: port {metrics.server_port}" in found.seen
    (found,) = ports.check("a", "127.0.0.1", [metrics.port], stranger=True)
    assert not found.well
    assert "RAY_enable_metrics_collection=0" in found.remedy
    metrics.shutdown()


def test_a_port_that_speaks_tls_is_closed_where_it_asks_for_a_certificate_or_a_key(tmp_path):
    certificates.make(tmp_path, ["127.0.0.1"])
    for status, asks, kind in ((200, False, "open"), (401, False, "closed"), (200, True, "closed")):
        server = Server(status)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        if asks:
            context.load_verify_locations(tmp_path / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        assert ports.knock("127.0.0.1", server.server_port).kind == kind
        server.shutdown()


def test_a_port_that_speaks_something_else_is_counted(monkeypatch):
    monkeypatch.setattr(ports, "TIMEOUT_S", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))
    port = Port(number=silent.getsockname()[1], process="/opt/ray/other")
    (found,) = ports.check("a", "127.0.0.1", [port], stranger=True)
    assert found.well
    assert "1 speak neither HTTP nor gRPC" in found.seen
    silent.close()


def test_only_ports_that_others_reach_count():
    code = (
        "import json, socket, sys; from genloom_platform.doctor import ports; "
        "there = [socket.create_server((host, 0)) for host in ('127.0.0.1', '0.0.0.0')]; "
        "print(json.dumps([[s.getsockname()[1] for s in there], [p.number for p in ports.listening()]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "/ray/"], capture_output=True, text=True, check=True
    )
    (own, other), found = json.loads(done.stdout)
    assert other in found
    assert own not in found
