"""Jobs that outlast their cluster's head: what was sent lies in the store until its command has ended.

Ray's head takes its jobs with it when it dies. So the command of a job that can go on writes down what started
it, and takes that away when it ends (`kept`). What lies there when a head starts was cut off: it is started
again under its id (`start_again`), and its run goes on from where it was.

    <store>/submissions/<id>/job.json · the packages that travelled

The record is sealed with the cluster's token: else whoever can write to the store could have the head run
anything. Another cluster's are left alone.
"""

import contextlib
import hashlib
import hmac
import json
import os
import shlex
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import ClusterError, StoreError
from genloom_platform import tokens
from genloom_platform.jobs import job as jobs
from genloom_platform.jobs import origin
from genloom_platform.jobs.client import Cluster
from genloom_platform.profiles import Profile
from genloom_platform.store import Store
from genloom_platform.train import lock

GO_ON = ("train", "finetune", "sweep", "serve")
"""Commands that, started again, go on where they were."""
ROOT = "submissions"
SETTLED_S = lock.LAPSE_S + lock.RENEW_S
"""After so long a lock that is still held has a holder; that of a process which died on another host lapses."""
READY_S = 60
"""How long a head that answers may refuse jobs: it starts them by an agent, which comes a little later."""
_TOLD = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable in which Ray tells a job what it was sent with."""


class Package(Facts):
    """Files that travelled: a folder as an archive, or a wheel."""

    kind: str
    """The key of Ray's runtime environment that names it: working_dir, py_modules."""
    name: str
    sha256: str


class Sent(Facts):
    """What started a job."""

    id: str
    entrypoint: str
    environment: dict[str, str]
    metadata: dict[str, str]
    packages: tuple[Package, ...]


class Sealed(Facts):
    """The same, and what shows that this cluster wrote it."""

    sent: Sent
    seal: str


@contextmanager
def kept(words: Sequence[str]) -> Generator[None]:
    """Keep what started this job, if it is one that can go on, until its command has ended."""
    job = origin.job()
    if job is None or _TOLD not in os.environ or not words or words[0] not in GO_ON:
        yield
        return
    store = Store()
    _write(store, job, shlex.join(["genloom", *words]))
    try:
        yield
    finally:
        # While the store is away it stays, and the next head finds a run that is finished.
        with contextlib.suppress(StoreError):
            store.delete(f"{ROOT}/{job}")


def _write(store: Store, id: str, entrypoint: str) -> None:
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]

    told = json.loads(os.environ[_TOLD])
    files = told.get("runtime_env") or {}
    named = [("working_dir", files["working_dir"])] if "working_dir" in files else []
    named += [("py_modules", each) for each in files.get("py_modules", ())]
    memory = GcsClient(address=os.environ["RAY_ADDRESS"]) if named else None
    packages: list[Package] = []
    for kind, uri in named:
        content: bytes | None = memory and memory.internal_kv_get(uri.encode(), None)
        if content is None:
            raise ClusterError(
                f"the head no longer has {uri}, which came with the job {id}; send it again"
            )
        name = uri.rpartition("/")[2]
        store.write(f"{ROOT}/{id}/{name}", content)
        packages.append(Package(kind=kind, name=name, sha256=hashlib.sha256(content).hexdigest()))
    ours = {
        name: text for name, text in told.get("metadata", {}).items() if name != "job_submission_id"
    }
    sent = Sent(
        id=id,
        entrypoint=entrypoint,
        environment=files.get("env_vars", {}),
        metadata=ours,
        packages=tuple(packages),
    )
    sealed = Sealed(sent=sent, seal=_seal(sent))
    store.write(f"{ROOT}/{id}/job.json", sealed.model_dump_json(indent=1).encode())


def _seal(sent: Sent) -> str:
    key = tokens.read(Profile(token=tokens.here()))
    return hmac.new(key.encode(), sent.model_dump_json().encode(), "sha256").hexdigest()


def start_again(store: Store, wait_s: float) -> Iterator[tuple[str, str]]:
    """Start what was cut off with the last head; on the head.

    Args:
        store: Where it lies.
        wait_s: How long the head may take until it takes jobs.

    Returns:
        Each job's id, and what became of it.

    Raises:
        ClusterError: The head takes no jobs.
    """
    names = [name for name in store.names(ROOT) if store.exists(f"{ROOT}/{name}/job.json")]
    if not names:
        return
    with _this_head(wait_s) as cluster:
        until = time.monotonic() + SETTLED_S
        while names:
            waits = time.monotonic() < until
            held = {name for name in names if waits and _is_written(store, name)}
            for name in names:
                if name not in held:
                    yield name, _start(store, cluster, name)
            names = [name for name in names if name in held]
            if names:
                time.sleep(1)


def _is_written(store: Store, name: str) -> bool:
    """Whether a process writes the run or the sweep of a job."""
    return any(lock.holder(store, name, kind) for kind in ("run", "sweep"))


def _start(store: Store, cluster: Cluster, id: str) -> str:
    try:
        sealed = Sealed.model_validate_json(store.read(f"{ROOT}/{id}/job.json"))
    except ValidationError:
        return "is damaged, and is left alone; send it again"
    sent = sealed.sent
    if sent.id != id or not hmac.compare_digest(sealed.seal, _seal(sent)):
        return "is another cluster's, and is left alone"
    before = [state for state in jobs.list_jobs(cluster, again=True) if state.id == id]
    if before and not before[0].lost:
        return f"is here already: {before[0].word}"
    if _is_written(store, id):
        return "is left alone: another process writes what it made, so it still runs somewhere"
    told: dict[str, Any] = {"env_vars": {**sent.environment, origin.AGAIN: "yes"}}
    with tempfile.TemporaryDirectory(prefix="genloom-") as folder:
        for package in sent.packages:
            path = Path(folder, package.name)
            if store.download(f"{ROOT}/{id}/{package.name}", path) != package.sha256:
                return f"is left alone: {package.name}, which came with it, is damaged; send it again"
            if package.kind == "py_modules":
                told.setdefault("py_modules", []).append(str(path))
            else:
                told["working_dir"] = str(path)
        known = f"{id}.{len(before) + 1}" if before else id
        return _submit(cluster, sent, known, told)


def _submit(cluster: Cluster, sent: Sent, submission: str, told: dict[str, Any]) -> str:
    until = time.monotonic() + READY_S
    while True:
        try:
            cluster.client.submit_job(
                entrypoint=sent.entrypoint,
                submission_id=submission,
                runtime_env=dict(told),
                metadata=sent.metadata,
            )
        except RuntimeError as error:
            if any(state.submission == submission for state in jobs.list_jobs(cluster, again=True)):
                return "is here already: somebody sent it again"
            if time.monotonic() > until:  # a head that has just started may lack what starts its jobs
                said = str(error).strip().splitlines()[-1]
                raise ClusterError(f"the head did not take the job {sent.id}: {said}") from error
            time.sleep(1)
        else:
            return "is started again"


def _this_head(wait_s: float) -> Cluster:
    """The cluster whose head this machine is, as its own jobs reach it, once it takes them."""
    until = time.monotonic() + wait_s
    while True:
        try:
            # The token goes no further than this machine.
            told = {"address": _url(), "trusted_network": True, "token": tokens.here()}
            cluster = Cluster(Profile.model_validate(told, context={"name": "of this machine"}))
            cluster.connect()
            return cluster
        except ClusterError:
            if time.monotonic() > until:
                raise
        time.sleep(1)


def _url() -> str:
    from ray.dashboard.utils import ray_address_to_api_server_url

    try:
        return ray_address_to_api_server_url(os.environ.get("RAY_ADDRESS"))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no head of Ray runs on this machine: {error}; ray start --head") from error
