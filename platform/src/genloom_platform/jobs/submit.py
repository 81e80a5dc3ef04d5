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
from importlib.metadata import version
from pathlib import Path

from genloom.errors import ClusterError, RequestError, UnknownName
from genloom_platform import profiles, tokens
from genloom_platform.jobs import job as jobs
from genloom_platform.jobs import origin, travel
from genloom_platform.jobs.client import Cluster, Unreachable
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
_DIGEST = "genloom_digest"


def submit(
    cluster: Cluster,
    words: Sequence[str],
    *,
    id: str | None = None,
    plugin: Path | None = None,
    folder: Path = Path(),
    asks: bool = False,
    on_id: Callable[[str, Luggage], None] = lambda name, luggage: None,
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
        on_id: Called with the id and what travels along, before anything is sent.

    Raises:
        RequestError: What was asked for is wrong: the command, a file, the plugin, an id that is another job's.
        ClusterError: The cluster does not answer, or did not take the job.
    """
    check(words, cluster.profile)
    name = identifier("job", id) if id else new_id(words)
    cluster.connect()
    with travel.pack(words, folder, plugin, limit_bytes()) as luggage:
        if luggage.plugin:
            travel.check_fits(luggage.plugin, cluster)
        on_id(name, luggage)
        entrypoint = shlex.join(["genloom", *words])
        digest = hashlib.sha256(f"{entrypoint}\0{luggage.digest}".encode()).hexdigest()
        for number in range(TRIES):
            with contextlib.suppress(Unreachable):
                return _once(cluster, name, entrypoint, digest, luggage, asks)
            cluster.close()
            time.sleep(2**number)
        return _once(cluster, name, entrypoint, digest, luggage, asks)


def _once(cluster: Cluster, id: str, entrypoint: str, digest: str, luggage: Luggage, asks: bool) -> Job:
    before = [state for state in jobs.list_jobs(cluster, again=True) if state.id == id]
    if before:
        _require_same(before[0], entrypoint, digest)
        if not before[0].lost:
            return Job(cluster, id)
    try:
        cluster.client.submit_job(
            entrypoint=entrypoint,
            submission_id=f"{id}.{len(before) + 1}" if before else id,
            runtime_env={**luggage.runtime_env, "env_vars": environment(cluster.profile, id, luggage)},
            metadata={
                jobs.NAME: id,
                _DIGEST: digest,
                "genloom_platform": version("genloom-platform"),
                **({"plugin": str(luggage.plugin)} if luggage.plugin else {}),
                **({jobs.ASKS: "yes"} if asks else {}),
            },
        )
    except RuntimeError as error:
        now = [state for state in jobs.list_jobs(cluster, again=True) if state.id == id]
        if len(now) > len(before):  # somebody else was first, with the same id
            _require_same(now[0], entrypoint, digest)
            return Job(cluster, id)
        said = str(error).strip().splitlines()[-1]
        raise ClusterError(
            f"the cluster {cluster.profile.name} did not take the job {id}: {said}"
        ) from error
    return Job(cluster, id)


def check(words: Sequence[str], profile: profiles.Profile) -> None:
    """Raise RequestError where a command cannot be a job, or has a secret in its words."""
    if not words:
        raise RequestError("name the command, as in: genloom submit --cluster lab -- train run.yaml")
    if words[0] not in COMMANDS:
        hint = "leave that word out" if words[0] == "genloom" else "what can be a job"
        raise UnknownName("command", words[0], COMMANDS, hint)
    named = {*profile.secrets, *filter(profiles.is_secret, os.environ)}
    held = {name: os.environ.get(name, "") for name in named}
    for name, value in sorted(held.items()):
        if len(value) >= SHORTEST and any(value in word for word in words):
            raise RequestError(
                f"the command holds the value of {name}, and everyone who may see jobs would see it; name "
                f"{name} in the `secrets` of the profile {profile.name}, and set it on the cluster's machines"
            )
    if any(tokens.read(profile) in word for word in words):
        raise RequestError(
            "the command holds the cluster's token, and everyone who may see jobs would see it; leave it out"
        )


def environment(profile: profiles.Profile, id: str, luggage: Luggage) -> dict[str, str]:
    """The variables that the job's processes are given. Ray shows them to everyone who may see jobs."""
    plugin = luggage.plugin
    told = {
        "GENLOOM_STORE": profile.store,
        "GENLOOM_TRACKING": profile.tracking,
        origin.JOB: id,
        origin.PLUGIN: f"{plugin.package} {plugin.version} {plugin.digest}" if plugin else None,
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
    """What Ray's job server takes in at once."""
    from ray._private import ray_constants

    return int(ray_constants.DASHBOARD_CLIENT_MAX_SIZE)


def _require_same(found: State, entrypoint: str, digest: str) -> None:
    if found.metadata.get(_DIGEST) == digest:
        return
    what = (
        "with other files or another plugin"
        if found.command == entrypoint
        else f"it is {found.command!r}"
    )
    raise RequestError(f"the id {found.id} is another job's ({what}); give another id, or none")
