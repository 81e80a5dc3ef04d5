"""`genloom jobs`: list, status, logs, stop, restart."""

import datetime
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from genloom.errors import RequestError
from genloom_platform.cli.screen import complain, pairs, say, table
from genloom_platform.units import duration

if TYPE_CHECKING:
    from genloom_platform.jobs.client import Cluster
    from genloom_platform.jobs.job import Job, State

app = typer.Typer(no_args_is_help=True)
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="The cluster, by its profile.", envvar="GENLOOM_CLUSTER", metavar="NAME"
    ),
]
Id = Annotated[str, typer.Argument(help="The job's id.", metavar="ID")]


def reached(name: str | None) -> "Cluster":
    """The cluster of that name.

    Raises:
        RequestError: None is named, or there is none of that name.
    """
    from genloom_platform import profiles
    from genloom_platform.jobs.client import Cluster

    if not name:
        known = ", ".join(sorted(profiles.available()))
        raise RequestError(
            f"name the cluster by --cluster NAME or {profiles.VARIABLE}; there is: {known}"
        )
    return Cluster(profiles.load(name))


def see(job: "Job") -> None:
    """Show a job's output until it ends, and end as its command did."""
    from genloom_platform.jobs.job import exit_status

    try:
        for text in job.logs(follow=True):
            typer.echo(text, nl=False)
        state = job.wait()
    except KeyboardInterrupt:
        say(f"\nthe job {job.id} goes on; genloom jobs stop {job.id} ends it")
        sys.exit(130)
    if state.word != "succeeded":
        complain(f"the job {job.id} {_how(state)}")
    sys.exit(exit_status(state))


def _how(state: "State") -> str:
    """How a job ended without success."""
    if state.word == "stopped":
        return "was stopped"
    if state.lost:
        return f"was lost with the machine that ran it; the same id starts it again and goes on: --id {state.id}"
    if state.exit_status == 127:
        return "failed: the cluster's head has no command genloom on its path; install genloom-platform there"
    if state.exit_status is None:
        return f"did not start: {state.message}"
    return f"failed with status {state.exit_status}"


@app.command("list")
def list_(cluster: ClusterName = None) -> None:
    """Every job that the cluster knows, the newest first."""
    from genloom_platform.jobs.job import list_jobs

    with reached(cluster) as there:
        rows = [(s.id, s.word, _when(s.started), _took(s), s.command) for s in list_jobs(there)]
        hint = f"{there.profile.name} knows of no job; genloom submit sends one"
    table(("job", "state", "started", "took", "command"), rows, hint)


@app.command("status")
def status(id: Id, cluster: ClusterName = None) -> None:
    """How a job stands."""
    from genloom_platform.jobs.job import Job

    with reached(cluster) as there:
        state = Job(there, id).state()
    shown = [
        ("job", state.id),
        ("state", state.word if state.word in ("pending", "running", "succeeded") else _how(state)),
        ("command", state.command),
        ("started", _when(state.started)),
        ("took", _took(state)),
    ]
    shown += [("plugin", state.metadata["plugin"])] if "plugin" in state.metadata else []
    shown += [("exit status", str(state.exit_status))] if state.exit_status is not None else []
    pairs(shown)


@app.command("logs")
def logs(
    id: Id,
    cluster: ClusterName = None,
    follow: Annotated[bool, typer.Option(help="Go on until the job ends, and end as it ends.")] = False,
) -> None:
    """What a job printed."""
    from genloom_platform.jobs.job import Job

    with reached(cluster) as there:
        job = Job(there, id)
        if follow:
            see(job)
        for text in job.logs():
            typer.echo(text, nl=False)


@app.command("stop")
def stop(id: Id, cluster: ClusterName = None) -> None:
    """Let a job's command save and end."""
    from genloom_platform.jobs.job import Job

    with reached(cluster) as there:
        job = Job(there, id)
        job.interrupt()
        say(f"asked {id} to save and end …")
        state = job.wait()
    say(f"the job {state.id} {_how(state) if state.word != 'succeeded' else 'succeeded before that'}")


@app.command("restart")
def restart(
    wait: Annotated[
        float, typer.Option(help="How long the head may take until it takes jobs.", metavar="SECONDS")
    ] = 120,
) -> None:
    """Start the jobs again that were cut off with this cluster's head; on the head, after `ray start`."""
    from genloom_platform.jobs import keep
    from genloom_platform.store import Store

    for job, became in keep.start_again(Store(), wait):
        say(f"the job {job} {became}")


def _when(seconds: float) -> str:
    if not seconds:
        return "not yet"
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _took(state: "State") -> str:
    return duration((state.ended or time.time()) - state.started) if state.started else ""
