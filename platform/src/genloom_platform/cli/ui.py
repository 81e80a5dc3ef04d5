"""`genloom ui`."""

from typing import Annotated

import typer

from genloom_platform.cli.screen import console, say


def ui(
    port: Annotated[
        int | None,
        typer.Option(
            help="The port to listen on; the first free one from 5000 if left out.", min=1, max=65535
        ),
    ] = None,
) -> None:
    """Open MLflow's pages on the store: runs, their metrics, models. On this machine alone, until Ctrl-C."""
    from genloom_platform.observe import pages
    from genloom_platform.store import Store

    store = Store()
    if url := pages.elsewhere():
        say(f"{url} has the pages of the tracking server that GENLOOM_TRACKING names")
        return
    with console.status("starting"):
        served = pages.start(store, port)
    with served:
        say(f"MLflow shows {store.url} at {served.url}; Ctrl-C ends it")
        say(f"  runs, their curves, samples and data: {served.runs}")
        say(f"  models, their aliases, tags and metrics: {served.models}")
        served.wait()
