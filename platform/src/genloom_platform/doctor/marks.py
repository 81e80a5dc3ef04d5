"""Whether all machines of a cluster have the same store: each leaves a mark there, and looks for the head's."""

import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from genloom.errors import GenloomError, StoreError
from genloom_platform.doctor.findings import Finding, finding, of_error
from genloom_platform.store import Store

FOLDER = ".doctor"
HEAD = "head"
CONNECT_S = 5
"""For a connection to S3; the library tries for a minute before it says that there is none."""
LOOK_S = 60
"""How long a training waits, before it starts, for machines to look at the store; a busy one may be late."""


def new_folder() -> str:
    """A folder of the store for one round of marks."""
    return f"{FOLDER}/{secrets.token_hex(4)}"


def leave(store: Store, folder: str) -> Finding:
    """Leave the head's mark, for all to see."""
    try:
        _connect(store)
        store.write(f"{folder}/{HEAD}", HEAD.encode())
    except GenloomError as error:
        return of_error("store", error)
    return finding("store", True, f"{store.url} is read and written", "")


def check(store: Store, folder: str, where: str) -> Finding:
    """Leave a mark on another machine, and look for the head's."""
    try:
        _connect(store)
        store.write(f"{folder}/{where}", where.encode())
        if store.exists(f"{folder}/{where}") and store.exists(f"{folder}/{HEAD}"):
            return finding("store", True, f"{store.url} is read and written", "")
    except GenloomError as error:
        return of_error("store", error)
    seen = f"what the head wrote to {store.url} is not there"
    remedy = (
        "mount one folder at the same place of all machines, or give an s3:// address that all reach"
    )
    return finding("store", False, seen, remedy)


def clear(store: Store, folder: str) -> None:
    """Take the marks away; a store that does not let them go was told by the checks."""
    try:
        store.delete(folder)
    except StoreError:
        return


@contextmanager
def others_look(store: Store) -> Generator[None]:
    """Let all machines of the cluster but this one look at a store, while the block runs.

    Raises:
        StoreError: On leaving, one cannot use it.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    own = ray.get_runtime_context().get_node_id()
    places = {
        node["NodeID"]: str(node["NodeManagerAddress"])
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != own
    }
    if not places:
        yield
        return
    folder = new_folder()
    store.write(f"{folder}/{HEAD}", HEAD.encode())
    asked = {_look_from(node, store, folder, where): where for node, where in places.items()}
    try:
        yield
    finally:
        done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=LOOK_S)
        clear(store, folder)
    found: dict[str, Finding] = {}
    for each in done:
        try:
            found[asked[each]] = ray.get(each)
        except RayTaskError:
            raise  # the look itself has failed
        except RayError:
            continue  # that machine has gone meanwhile: nothing of the run will be there
    wrong = {where: each for where, each in found.items() if not each.well}
    if wrong:
        first = next(iter(wrong.values()))
        raise StoreError(
            f"the store cannot be used from {', '.join(sorted(wrong))}: {first.seen}; {first.remedy} (genloom "
            f"doctor looks at all machines)"
        )


def _look_from(node: str, store: Store, folder: str, where: str) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned: Any = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(check).options(
        num_cpus=0, max_retries=0, scheduling_strategy=pinned
    ).remote(store, folder, where)  # fmt: skip


def _connect(store: Store) -> None:
    """Raise StoreError where S3 does not take a connection."""
    if store.folder is not None:
        return
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((str(parts.hostname), port), CONNECT_S).close()
    except OSError as error:
        raise StoreError(
            f"{endpoint}, where {store.url} lies, cannot be reached: {error.strerror or error}; see "
            f"AWS_ENDPOINT_URL, and that machine's network and firewall"
        ) from error
