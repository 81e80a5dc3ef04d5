"""Starting and stopping an endpoint: everything is checked first, then Ray Serve is given the models."""

import functools
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from genloom import LoadedModel
from genloom.errors import GenloomError, RequestError
from genloom_platform import cluster
from genloom_platform.models import loading
from genloom_platform.models.registry import Registry
from genloom_platform.serve import keyring, keys
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.presence import Announcement
from genloom_platform.store import Store

if TYPE_CHECKING:
    from genloom_platform.serve.replica import Door

APP = "genloom"
START_TIMEOUT_S = 600
"""How long the models may take to load."""
STOP_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 400
"""When Serve's proxy gives a request up; the gateway does before, in words (`app.ANSWER_TIMEOUT_S`)."""
POLL_S = 0.1


@dataclass(frozen=True)
class Source:
    """A model to serve."""

    name: str
    """`name@version`."""
    load: Callable[[], LoadedModel]
    """Called in the model's own process."""
    created: int
    """When it was released, in Unix time."""
    run: str | None = None
    """The run that made it."""


def start(
    store_url: str,
    references: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    origins: Sequence[str] = (),
) -> str:
    """Serve registered models; returns when the endpoint answers.

    Callers must send a key where the environment's GENLOOM_API_KEY is set, or other machines reach the host:
    that key, or one of the store's. On such a host there has to be one of them at least.

    Args:
        store_url: The store whose registry holds the models.
        references: `name`, `name@version` or `name@alias`. What an alias means now is served, also
            after it moves.
        host: The address to listen on.
        port: The port to listen on.
        origins: Pages in browsers that may ask, as in `https://app.acme.example`.

    Returns:
        The endpoint's URL.

    Raises:
        RequestError: The host, the port, the key or a model is wrong; nothing was started.
        GenloomError: A model cannot be loaded, or the cluster not be reached.
    """
    store = Store(store_url)
    check(host, port, store)
    return start_sources(sources(store, references), host, port, store, origins)


def sources(store: Store, references: Sequence[str]) -> list[Source]:
    """Registered models, each pinned to the version that its reference means now.

    Raises:
        UnknownName: There is no such model.
        PluginError: A model's plugin is not installed.
    """
    registry = Registry(store)
    found: list[Source] = []
    for version in map(registry.find, references):
        version.release.trainable()
        load = functools.partial(loading.load_version, store, version)
        created = int(datetime.fromisoformat(version.release.created_at).timestamp())
        found.append(Source(version.full_name, load, created, version.run))
    return found


def check(host: str, port: int, store: Store | None = None) -> None:
    """Raise RequestError where an endpoint of a store cannot or must not listen there."""
    has_key = keys.from_environment() is not None
    if not has_key and store and keys.is_exposed(host):
        has_key = bool(keyring.records(store))
    keys.check_exposure(host, has_key)
    if not 1 <= port <= 65535:
        raise RequestError(f"port = {port}: there is no such port; give 1 to 65535")
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As Serve's proxy does, so that a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise RequestError(
                f"port = {port}: cannot listen on {host}:{port} ({error.strerror}); "
                f"choose another port, or end what uses it"
            ) from error


def start_sources(
    sources: Sequence[Source],
    host: str,
    port: int,
    store: Store | None = None,
    origins: Sequence[str] = (),
) -> str:
    """Serve models from wherever they come; otherwise as `start`. It is told in the store, where one is given."""
    check(host, port, store)
    names = [source.name for source in sources]
    if not names:
        raise RequestError("no model was named; name one or more (genloom models list)")
    if len(set(names)) < len(names):
        raise RequestError(f"models = {', '.join(names)}: one is named twice; name each once")
    key = keys.from_environment()
    url = _url(host, port)
    said = Announcement(store=store.url, url=url, models=tuple(names)) if store else None
    door = _door(host, key, store, origins)
    with keys.withheld():
        serve = _connect(len(sources))
    try:
        _listen(serve, host, port)
        _deploy(serve, sources, door, said)
        _await_answer(url, key)
    except BaseException:
        stop()
        raise
    return url


def stop() -> None:
    """End the endpoint that this process's cluster serves, if it does; returns when it has ended."""
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    def controller() -> Any:
        try:
            return ray.get_actor(SERVE_CONTROLLER_NAME, SERVE_NAMESPACE)
        except ValueError:
            return None

    if not ray.is_initialized() or not (running := controller()):
        return
    # serve.shutdown() waits in a call that dies with the controller, and Ray prints that on the terminal.
    ray.get(running.graceful_shutdown.remote(wait=False))
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while controller():
        if time.monotonic() > deadline:
            raise GenloomError(
                f"the endpoint did not end in {STOP_TIMEOUT_S} s; ray stop ends it by force"
            )
        time.sleep(POLL_S)
    _quiet_serve().shutdown()  # forgets the connection to it


def _door(host: str, key: str | None, store: Store | None, origins: Sequence[str]) -> "Door":
    """Whom to let in; on this machine, and without a key in the environment, no key is asked for."""
    from genloom_platform.serve.replica import Door

    closed = key is not None or keys.is_exposed(host)
    lock = Lock.of(key) if key else None
    return Door(lock, store.url if store and closed else None, tuple(origins))


def _connect(num_models: int) -> Any:
    """Ray's serve module, in a process that is connected to a cluster that serves nothing yet."""
    from genloom_platform.serve.replica import GATEWAY_CPUS, MODEL_CPUS

    cluster.connect(GATEWAY_CPUS + num_models * MODEL_CPUS)
    serve = _quiet_serve()
    if serve.status().proxies:
        raise RequestError(
            "this cluster serves an endpoint already, and can serve one; stop that, or name its models together"
        )
    return serve


def _quiet_serve() -> Any:
    """Ray's serve module, whose log does not reach the terminal. It has files of its own."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    return serve


def _deploy(serve: Any, sources: Sequence[Source], door: "Door", said: Announcement | None) -> None:
    """Start the deployments, and wait until all run.

    Raises:
        GenloomError: A model cannot be loaded, or there is no room for it.
    """
    from genloom_platform.serve.replica import Gateway, ModelReplica

    models: list[Any] = [
        ModelReplica.options(name=source.name).bind(source.load, source.created, source.run)
        for source in sources
    ]
    target = serve.RunTarget(target=Gateway.bind(door, said, *models), name=APP, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)
    deadline = time.monotonic() + START_TIMEOUT_S
    while (state := serve.status().applications[APP]).status != "RUNNING":
        faults = {name: each.message for name, each in state.deployments.items() if each.message}
        if state.status == "DEPLOY_FAILED":
            raise GenloomError(_why(faults) or f"the endpoint cannot start: {state.message}")
        if time.monotonic() > deadline:
            raise GenloomError(
                f"the endpoint did not start in {START_TIMEOUT_S} s: {_why(faults) or state.message}; "
                f"genloom doctor shows what the cluster has free"
            )
        time.sleep(POLL_S)


def _listen(serve: Any, host: str, port: int) -> None:
    """Start Serve's proxy, on the cluster's head.

    Raises:
        GenloomError: It cannot listen there: `check` looked on this machine, and a moment earlier.
    """
    from ray.exceptions import RayError

    http_options = {"host": host, "port": port, "request_timeout_s": REQUEST_TIMEOUT_S}
    try:
        serve.start(proxy_location="HeadOnly", http_options=http_options)
    except RayError as error:
        reason = str(error).strip().rpartition("\n")[2].removeprefix("RuntimeError: ").rstrip(".")
        raise GenloomError(f"the endpoint cannot start: {reason}; choose another port") from error


def _why(faults: dict[str, str]) -> str:
    """Why deployments do not run: of a traceback, what the exception at its end says."""
    from genloom_platform.serve.replica import CAUSE

    reasons = {name: fault.strip().rpartition("\n")[2] for name, fault in faults.items()}
    return "; ".join(
        f"{name} cannot be served: {reason.rpartition(CAUSE)[2]}" for name, reason in reasons.items()
    )


def _url(host: str, port: int) -> str:
    """Where this machine reaches an endpoint that listens on a host."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def _await_answer(url: str, key: str | None) -> None:
    """Wait until the endpoint answers, with the key where it asks for one.

    The gateway then has seen the right key, and a wrong one costs it next to nothing (`Callers`).
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    deadline = time.monotonic() + START_TIMEOUT_S
    # No proxy of the environment: it is this machine that is asked.
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        while True:
            try:
                answers = [client.get("/healthz"), client.get("/v1/models")]
                # Without a key at hand, that it asks for one is an answer.
                if all(each.is_success or (not key and each.status_code == 401) for each in answers):
                    return
                last = answers[-1].text[:200]
            except httpx.HTTPError as error:
                last = str(error)
            if time.monotonic() > deadline:
                raise GenloomError(f"{url} does not answer: {last}; see genloom doctor")
            time.sleep(POLL_S)
