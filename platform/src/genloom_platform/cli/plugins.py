"""`genloom plugins`: list, check, new."""

from pathlib import Path
from typing import Annotated

import typer

from genloom_platform.cli.screen import console, say, table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    load: Annotated[
        bool, typer.Option("--load", help="Import each, and say what is wrong with it.")
    ] = False,
) -> None:
    """Every installed generator and predictor."""
    from genloom import registry
    from genloom.errors import GenloomError

    rows: list[tuple[str, ...]] = []
    for name, plugin in registry.available().items():
        state = f"also claimed by {', '.join(plugin.rivals)}" if plugin.rivals else ""
        if load:
            try:
                state = (registry.load(name).__doc__ or "").strip().partition("\n")[0]
            except GenloomError as error:
                state = f"error: {error}"
        rows.append((name, plugin.package, plugin.version, state))
    table(
        ("name", "package", "version", ""),
        rows,
        "no plugin is installed; pip install genloom-image brings three",
    )


@app.command("check")
def check(name: Annotated[str, typer.Argument(help="The generator's name.")]) -> None:
    """Run the conformance kit on a plugin, and say what its author must mend."""
    from genloom import registry, testing

    with console.status(f"checking {name}"):
        found = testing.report(registry.load(name))
    for finding in found.findings:
        say(str(finding))
    if not found.passed:
        raise typer.Exit(1)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The generator's name, as in my-vae.")],
    kind: Annotated[str, typer.Option(help="image, text, audio or predictor.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where the package goes; a folder of its name.")
    ] = None,
) -> None:
    """Make a package that an author can start from."""
    from genloom_platform.plugins import scaffold

    made = scaffold.new(name, kind, folder or Path(name))
    say(f"made {made}; next: pip install -e {made} && genloom plugins check {name}")
