"""Starting and stopping an endpoint: everything is checked first, then Ray Serve is given the models."""

import errno
import logging
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genloom.errors import GenloomError, RequestError
from genloom_platform import cluster
from genloom_platform.serve import ingress, keyring, keys, placement, plan, tls, wanted
from genloom_platform.serve.callers import door
from genloom_platform.serve.presence import Announcement
from genloom_platform.serve.sources import Given, Registered, Shelf, Source, targets
from genloom_platform.serve.wanted import Wanted
from genloom_platform.store import Store

if TYPE_CHECKING:
    from genloom_platform.serve.memory import State

START_TIMEOUT_S = 600
"""How long the models may take to load."""
STOP_TIMEOUT_S = 60
SILENT_S = 30.0
"""A keeper that has told nothing for so long is being started again."""
POLL_S = 0.1
OWN_CPUS = 0.1
"""Of the keeper."""


def start(
    store_url: str,
    references: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 8000,
    origins: Sequence[str] = (),
) -> str:
    """Serve registered models; returns when the endpoint answers.

    Where an alias among the references moves, the endpoint follows it. Callers must send a key where the
    environment's GENLOOM_API_KEY is set, or other machines reach the host: that key, or one of the store's. On
    such a host there has to be one of them at least.

    Args:
        store_url: The store whose registry holds the models.
        references: `name`, `name@version` or `name@alias`.
        host: The address to listen on.
        port: The port to listen on.
        origins: Pages in browsers that may ask, as in `https://app.acme.example`.

    Returns:
        The endpoint's URL.

    Raises:
        RequestError: As of `start_wanted`.
        GenloomError: As of `start_wanted`.
    """
    return start_wanted(_wanted(references, host, port, origins), Store(store_url))


def start_sources(
    sources: Sequence[Source],
    host: str,
    port: int,
    store: Store | None = None,
    origins: Sequence[str] = (),
) -> str:
    """Serve models from wherever they come; otherwise as `start`. It is told in the store, where one is given."""
    check(host, port, store)
    shelf = Given({each.name: each for each in sources})
    return start_shelf(_wanted([each.name for each in sources], host, port, origins), shelf, store)


def start_wanted(asked: Wanted, store: Store) -> str:
    """Serve what is wanted of a store's models; returns when the endpoint answers. For the keys see `start`.

    Returns:
        The endpoint's URL.

    Raises:
        RequestError: The host, the port, the key or a model is wrong; nothing was started.
        GenloomError: A model cannot be loaded, or the cluster not be reached.
    """
    check(asked.host, asked.port, store)
    if asked.tls:
        tls.check(asked.tls)
    shelf = Registered(store.url)
    shelf.check(reference for each in asked.models for reference in each.references)
    return start_shelf(asked, shelf, store)


def start_shelf(asked: Wanted, shelf: Shelf, store: Store | None = None) -> str:
    """Serve what is wanted of the models of a shelf; otherwise as `start_wanted`."""
    check(asked.host, asked.port, store)
    found, sources = targets(asked, shelf)
    _check_distinct([target.stable for target in found])
    key = keys.from_environment()
    with keys.withheld():
        serve = _connect(asked)
    from genloom_platform.serve import application, applications

    url = application.url(asked)
    said = Announcement(store=store.url, url=url) if store else None
    admitted = door(asked.host, key, store.url if store else None, asked.cors)
    try:
        ingress.listen(serve, asked)
        bound = application.endpoint(asked, shelf, admitted, said)
        target = serve.RunTarget(
            target=bound, name=applications.GATEWAY, route_prefix=ingress.prefix(asked)
        )
        # The versions at once with it, and not by the keeper, so that they need not wait for that.
        versions = applications.applications(plan.needed(found), sources, asked.pools, shelf)
        applications.start([target, *versions])
        _await_versions(serve)
        _await_answer(url, key, asked)
    except BaseException:
        stop()
        raise
    return url


def state() -> "State":
    """How the endpoint of this process's cluster is.

    Raises:
        GenloomError: Its keeper does not answer now.
    """
    from genloom_platform.serve import memory

    told = memory.look()
    if told is None or time.time() - told.at > SILENT_S:
        raise GenloomError("the endpoint's keeper does not answer; it is started again")
    return told


def _wanted(references: Sequence[str], host: str, port: int, origins: Sequence[str] = ()) -> Wanted:
    if not references:
        raise RequestError("no model was named; name one or more (genloom models list)")
    _check_distinct(references)
    values = {"models": list(references), "host": host, "port": port, "cors": list(origins)}
    return wanted.checked(values, "the endpoint")


def _check_distinct(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise RequestError(f"models = {', '.join(names)}: one is named twice; name each once")


def check(host: str, port: int, store: Store | None = None) -> None:
    """Raise RequestError where an endpoint of a store cannot or must not listen there."""
    keyring.check_exposure(host, keys.from_environment(), store)
    if not 1 <= port <= 65535:
        raise RequestError(f"port = {port}: there is no such port; give 1 to 65535")
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the gateway does, so that a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise RequestError(
                    f"host = {host}: it is no address of this machine; give one of its own, or 0.0.0.0 for all"
                ) from error
            raise RequestError(
                f"port = {port}: cannot listen on {host}:{port} ({error.strerror}); "
                f"choose another port, or end what uses it"
            ) from error


def stop() -> None:
    """End the endpoint that this process's cluster serves, if it does; returns when it has ended."""
    try:
        _stop()
    finally:
        ingress.clear()


def _stop() -> None:
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


def _connect(asked: Wanted) -> Any:
    """Ray's serve module, in a process that is connected to a cluster that serves nothing yet."""
    ingress.prepare(asked.ingress, asked.host)
    cluster.connect(OWN_CPUS + asked.cpus)
    placement.check(asked)
    serve = _quiet_serve()
    if serve.status().applications:
        raise RequestError(
            "this cluster serves an endpoint already, and can serve one; stop that, or name its models together"
        )
    return serve


def _quiet_serve() -> Any:
    """Ray's serve module, whose log does not reach the terminal. It has files of its own."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    return serve


def _await_versions(serve: Any) -> None:
    """Wait until all that is wanted answers.

    Raises:
        GenloomError: A model cannot be loaded, or there is no room for it.
    """
    from genloom_platform.serve import applications, memory

    deadline = time.monotonic() + START_TIMEOUT_S
    reached = False
    while True:
        own = serve.status().applications[applications.GATEWAY]
        if own.status == "DEPLOY_FAILED":
            told = next(
                (each.message for each in own.deployments.values() if each.message), own.message
            )
            raise GenloomError(f"the endpoint cannot start: {applications.reason(told)}")
        reached = reached or own.status == "RUNNING"
        known = memory.look() if reached else None
        if known and known.faults:
            raise GenloomError("; ".join(known.faults))
        if known and known.ready:
            return
        if time.monotonic() > deadline:
            why = "; ".join(known.slow) if known else own.message
            raise GenloomError(
                f"the endpoint did not start in {START_TIMEOUT_S} s: {why}; "
                f"genloom doctor shows what the cluster has free"
            )
        time.sleep(POLL_S)


def _await_answer(url: str, key: str | None, asked: Wanted) -> None:
    """Wait until the endpoint answers, with the key where it asks for one.

    The gateway then has seen the right key, and a wrong one costs it next to nothing (`Callers`).
    """
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    deadline = time.monotonic() + START_TIMEOUT_S
    # No proxy of the environment: it is this machine that is asked.
    verify = asked.tls.context if asked.tls else True
    with httpx.Client(
        base_url=url, headers=headers, trust_env=False, timeout=30, verify=verify
    ) as client:
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
