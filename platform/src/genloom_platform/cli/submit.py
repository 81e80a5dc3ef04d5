"""`genloom submit`. The next file to read is `jobs/submit.py`."""

from pathlib import Path
from typing import Annotated

import typer

from genloom_platform.cli.jobs import ClusterName, reached, see
from genloom_platform.cli.screen import say


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
            on_id=lambda job, luggage: say(
                f"job {job} on {name}{f', with {luggage}' if str(luggage) else ''}; "
                f"genloom jobs logs --follow {job} shows it"
            ),
        )
        if follow:
            see(job)
