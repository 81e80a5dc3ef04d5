"""MLflow's pages on a store, on loopback: its own server as a process below this one."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from genloom.errors import GenloomError, RequestError
from genloom_platform.models.database import ARTIFACTS, QUIET
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store

APP = "genloom_platform.observe.pages_app:app"
HOST = "127.0.0.1"
WORKFLOW = "workflowType=machine_learning"
"""MLflow's pages have a side for chats and one for training; this one shows runs and models."""
FIRST_PORT, PORTS = 5000, 100
START_TIMEOUT_S = 60.0
GRACE_S = 2
"""How long answers under way may take when the pages are ended."""
STOP_TIMEOUT_S = 10.0


def elsewhere() -> str | None:
    """The address of the tracking server that GENLOOM_TRACKING names, which has pages of its own."""
    address = os.environ.get("GENLOOM_TRACKING", "")
    return address if address.startswith(("http://", "https://")) else None


class Pages:
    """MLflow's server while it runs; a context that ends it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", url: str, experiment: str, log: Path
    ) -> None:
        self._process, self._log = process, log
        self.url = url
        self.runs = f"{url}/#/experiments/{experiment}/runs?{WORKFLOW}"
        """The page of the runs."""
        self.models = f"{url}/#/models?{WORKFLOW}"
        """The page of the models."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until Ctrl-C.

        Raises:
            GenloomError: The server has ended by itself.
        """
        self._process.wait()
        raise GenloomError(f"MLflow's server has ended by itself: {self.last_words()}")

    def last_words(self) -> str:
        """The last line that the server printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"


def start(store: Store, port: int | None = None) -> Pages:
    """Serve the pages; returns when they answer.

    Args:
        store: The store whose runs and models they show.
        port: The port; the first free one from 5000 where None.

    Raises:
        RequestError: The port is taken.
        StoreError: The registry cannot be opened.
        GenloomError: The server does not start.
    """
    registry = Registry(store)
    uri, experiment = registry.client.uri, registry.experiment()
    port = free_port(port)
    environment = {**QUIET, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment |= {"MLFLOW_BACKEND_STORE_URI": uri}
    environment |= {"MLFLOW_DEFAULT_ARTIFACT_ROOT": f"{store.url}/{ARTIFACTS}"}
    command = [sys.executable, "-m", "uvicorn", APP, "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--log-level", "warning"]
    # A browser keeps its connections open, and for these uvicorn would wait without end.
    command += ["--timeout-graceful-shutdown", str(GRACE_S)]
    handle, name = tempfile.mkstemp(prefix="genloom-ui-", suffix=".log")
    # Its own group: Ctrl-C reaches this process, which then ends the server.
    process = subprocess.Popen(  # noqa: S603
        command, stdout=handle, stderr=handle, env=environment, start_new_session=True
    )
    os.close(handle)
    pages = Pages(process, f"http://{HOST}:{port}", experiment, Path(name))
    try:
        _await(process, pages, port)
    except BaseException:
        pages.__exit__(None, None, None)
        raise
    return pages


def _await(process: "subprocess.Popen[bytes]", pages: Pages, port: int) -> None:
    import httpx

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise GenloomError(f"MLflow's server cannot start: {pages.last_words()}")
        try:
            if httpx.get(f"{pages.url}/health", trust_env=False, timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise GenloomError(
        f"MLflow's server does not answer on port {port} after {START_TIMEOUT_S:.0f} s: {pages.last_words()}"
    )


def free_port(port: int | None) -> int:
    """The port, or a free one; raises RequestError where it is taken."""
    for each in [port] if port else range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, each))
            except OSError:
                continue
            return each
    taken = f"port = {port}: it is taken" if port else f"the ports from {FIRST_PORT} on are taken"
    raise RequestError(f"{taken}; give another (--port), or end what uses it")
