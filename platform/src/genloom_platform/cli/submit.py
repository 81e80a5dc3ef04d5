"""`genloom submit`. The next file to read is `jobs/submit.py`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genloom_platform.cli.jobs import ClusterName, reached, see
from genloom_platform.cli.screen import say

if TYPE_CHECKING:
    from genloom_platform.jobs.job import State
    from genloom_platform.jobs.travel import Luggage


def submit(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(help="A command, as it would stand after genloom.", metavar="-- COMMAND …"),
    ] = None,
    cluster: ClusterName = None,
    id: Annotated[
        str | None, typer.Option("--id", help="The job's id; the same id is the same job.")
    ] = None,
    plugin: Annotated[
        Path | None,
        typer.Option(
            help="The folder of your plugin; this folder, where it is one's.", file_okay=False
        ),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Show its output, and end as it ends.")] = False,
) -> None:
    """Run a command on a cluster. It goes on there whatever becomes of this machine.

    Files of this folder that the command names travel with it, and so does the plugin. For example:
    genloom submit --cluster lab --follow -- train run.yaml --workers 8
    """
    from genloom.errors import RequestError
    from genloom_platform.jobs.submit import submit as send
    from genloom_platform.jobs.wheel import chosen

    given = context.parent and context.parent.get_parameter_source("store")
    if given and given.name == "COMMANDLINE":
        raise RequestError(
            "the store of a job is its cluster's; give another after the dashes: genloom submit … -- "
            "train … --store URL"
        )
    with reached(cluster) as there:
        name = there.profile.name
        job = send(
            there,
            words or [],
            id=id,
            plugin=chosen(plugin),
            on_job=lambda job, luggage, found: say(_told(job, name, luggage, found)),
        )
        if follow:
            see(job)


def _told(job: str, cluster: str, luggage: "Luggage", found: "State | None") -> str:
    """What came of it: a job that was started, or one that was there already."""
    from genloom_platform.jobs.job import ended

    shows = f"genloom jobs logs --follow {job} shows it"
    if found is None:
        return f"job {job} on {cluster}{f', with {luggage}' if str(luggage) else ''}; {shows}"
    there = f"job {job} on {cluster} is there already"
    if found.over:
        return f"{there}: it {ended(found)}; another --id starts anew"
    return f"{there}: it {'runs' if found.word == 'running' else 'waits to start'}; {shows}"
