"""Submitting: a command of Genloom becomes a job of a cluster, once for each id. Next, read `job.py`."""

import contextlib
import datetime
import hashlib
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from genloom.errors import ClusterError, RequestError, UnknownName
from genloom_platform import profiles, tokens
from genloom_platform.jobs import job as jobs
from genloom_platform.jobs import origin, travel
from genloom_platform.jobs.client import Cluster, Unreachable, in_a_line
from genloom_platform.jobs.job import Job, State
from genloom_platform.jobs.travel import Luggage
from genloom_platform.names import identifier

COMMANDS = (
    "data", "doctor", "evaluate", "finetune", "generate", "models", "plugins", "runs", "serve", "sweep", "sweeps",
    "train",
)  # fmt: skip
"""What can be a job."""
STOP_S = 300
"""How long a command may take to save and end when its job is stopped, before it is killed; by default 3."""
TRIES = 4
"""How often a submission whose answer does not come is looked for and sent again: it is the same job."""
SHORTEST = 8
"""Characters of a secret; shorter values may stand in a command by chance."""
ROOM = 0.01
"""The part of what a cluster takes in at once that is left to the names in a zip of the files."""
_DIGEST = "genloom_digest"
_SENT_BY = "genloom_sent_by"
"""The key that tells a job which this very call has sent, and whose answer was lost, from one that was there."""


@dataclass(frozen=True)
class _Order:
    """What is to be started."""

    id: str
    entrypoint: str
    digest: str
    luggage: Luggage
    asks: bool
    sent_by: str


def submit(
    cluster: Cluster,
    words: Sequence[str],
    *,
    id: str | None = None,
    plugin: Path | None = None,
    folder: Path = Path(),
    asks: bool = False,
    on_job: Callable[[str, Luggage, State | None], None] = lambda name, luggage, found: None,
) -> Job:
    """Start a command on a cluster, or find the job that it is already.

    A job that was lost with its machine is started again, and goes on with its run.

    Args:
        cluster: Where.
        words: The command's, as in `["train", "run.yaml", "--workers", "8"]`.
        id: The job's; made from the command and the time where None.
        plugin: The folder of the team's own plugin, as `wheel.chosen` found it; None for none.
        folder: Where the files that the command names lie.
        asks: Whether it only asks something; lists of jobs leave it out.
        on_job: Called with the id, what travels along, and the job that was found, None where it was started.

    Raises:
        RequestError: What was asked for is wrong: the command, a file, the plugin, an id that is another job's.
        ClusterError: The cluster does not answer, or did not take the job.
    """
    check(words, cluster.profile)
    name = new_id(words) if id is None else identifier("job", id)
    cluster.connect()
    with travel.pack(words, folder, plugin, limit_bytes(), hidden(cluster.profile)) as luggage:
        if luggage.plugin:
            travel.check_fits(luggage.plugin, cluster)
        entrypoint = shlex.join(["genloom", *words])
        digest = hashlib.sha256(f"{entrypoint}\0{luggage.digest}".encode()).hexdigest()
        order = _Order(name, entrypoint, digest, luggage, asks, secrets.token_hex(8))
        found = _send(cluster, order)
        on_job(name, luggage, found)
        return Job(cluster, name)


def _send(cluster: Cluster, order: _Order) -> State | None:
    """Start a job, with several tries; the one that was there, where it was."""
    for number in range(TRIES):
        with contextlib.suppress(Unreachable):
            return _once(cluster, order)
        cluster.close()
        time.sleep(2**number)
    try:
        return _once(cluster, order)
    except Unreachable as error:
        raise Unreachable(
            f"{error}; whether it took the job {order.id} is not known: the same command with --id {order.id} "
            "finds it, or sends it"
        ) from error


def _once(cluster: Cluster, order: _Order) -> State | None:
    name, luggage = order.id, order.luggage
    before = [state for state in jobs.list_jobs(cluster, again=True) if state.id == name]
    if before:
        _require_same(before[0], order)
        if not before[0].lost:
            return _others(before[0], order)
    try:
        cluster.client.submit_job(
            entrypoint=order.entrypoint,
            submission_id=f"{name}.{len(before) + 1}" if before else name,
            runtime_env={
                **luggage.runtime_env,
                "env_vars": environment(cluster.profile, name, luggage),
            },
            metadata={
                jobs.NAME: name,
                _DIGEST: order.digest,
                _SENT_BY: order.sent_by,
                "genloom_platform": version("genloom-platform"),
                **({"plugin": str(luggage.plugin)} if luggage.plugin else {}),
                **({jobs.ASKS: "yes"} if order.asks else {}),
            },
        )
    except RuntimeError as error:
        now = [state for state in jobs.list_jobs(cluster, again=True) if state.id == name]
        if len(now) > len(before):  # somebody else was first, with the same id
            _require_same(now[0], order)
            return _others(now[0], order)
        said = in_a_line(str(error).strip().splitlines()[-1])
        raise ClusterError(
            f"the cluster {cluster.profile.name} did not take the job {name}: {said}"
        ) from error
    return None


def _others(found: State, order: _Order) -> State | None:
    """A job that was found, where another call had sent it."""
    return None if found.metadata.get(_SENT_BY) == order.sent_by else found


def check(words: Sequence[str], profile: profiles.Profile) -> None:
    """Raise RequestError where a command cannot be a job, or has a secret in its words."""
    if not words:
        raise RequestError("name the command, as in: genloom submit --cluster lab -- train run.yaml")
    if words[0] not in COMMANDS:
        hint = "leave that word out" if words[0] == "genloom" else "what can be a job"
        raise UnknownName("command", words[0], COMMANDS, hint, limit=len(COMMANDS))
    for what, value in hidden(profile).items():
        if any(value in word for word in words):
            raise RequestError(
                f"the command holds {what}, and everyone who may see jobs would see it; {travel.REMEDY}"
            )


def hidden(profile: profiles.Profile) -> dict[str, str]:
    """What neither commands nor files that travel may hold, by what it is: the values of secrets, the token."""
    named = {*profile.secrets, *filter(profiles.is_secret, os.environ)}
    held = {f"the value of {name}": os.environ.get(name, "") for name in sorted(named)}
    token = {"the cluster's token": tokens.read(profile)}
    return {what: value for what, value in held.items() if len(value) >= SHORTEST} | token


def environment(profile: profiles.Profile, id: str, luggage: Luggage) -> dict[str, str]:
    """The variables that the job's processes are given. Ray shows them to everyone who may see jobs."""
    plugin, price = luggage.plugin, profile.price_per_hour
    told = {
        "GENLOOM_STORE": profile.store,
        "GENLOOM_TRACKING": profile.tracking,
        origin.JOB: id,
        origin.PLUGIN: f"{plugin.package} {plugin.version} {plugin.digest}" if plugin else None,
        origin.PRICE: f"{price.amount} {price.currency}" if price else None,
        origin.SECRETS: " ".join(profile.secrets) or None,
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
    }
    return {**profile.environment, **{name: value for name, value in told.items() if value}}


def new_id(words: Sequence[str]) -> str:
    """An id for a job: what it is, the time, and some letters that are its own."""
    subject = next((word for word in words[1:] if not word.startswith("-")), "")
    plain = re.sub(r"[^a-z0-9]+", "-", f"{words[0]}-{Path(subject).stem}".lower())[:40].strip("-")
    return f"{plain}-{datetime.datetime.now(datetime.UTC):%m%d-%H%M%S}-{secrets.token_hex(2)}"


def limit_bytes() -> int:
    """What of a job's files, or of its wheel, Ray's job server takes in at once."""
    from ray._private import ray_constants

    return int(ray_constants.DASHBOARD_CLIENT_MAX_SIZE * (1 - ROOM))


def _require_same(found: State, order: _Order) -> None:
    if found.metadata.get(_DIGEST) == order.digest:
        return
    what = (
        "with other files or another plugin"
        if found.command == order.entrypoint
        else f"it is {found.command!r}"
    )
    raise RequestError(f"the id {found.id} is another job's ({what}); give another id, or none")
