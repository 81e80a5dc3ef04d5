"""`genloom serve`."""

import time
from typing import Annotated

import typer

from genloom_platform.cli.screen import console, say


def serve(
    models: Annotated[
        list[str], typer.Argument(help="Models: name, name@version or name@alias.", metavar="MODEL …")
    ],
    host: Annotated[
        str, typer.Option(help="The address to listen on; beyond loopback keys are asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 8000,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Pages of this origin may ask from a browser.", metavar="ORIGIN"),
    ] = None,
) -> None:
    """Serve models over HTTP until Ctrl-C.

    Where the environment's GENLOOM_API_KEY is set, or other machines reach the address, callers must show
    that key or one of the store's (genloom keys).
    """
    from genloom_platform.serve import launch
    from genloom_platform.store import Store

    with console.status("starting"):
        url = launch.start(Store().url, models, host=host, port=port, origins=cors or ())
    say(f"serving {', '.join(models)} at {url}; its page is {url}/docs; Ctrl-C stops it")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        launch.stop()
