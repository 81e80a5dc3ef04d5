"""`genloom models`, what changes the registry: promote, tag, export, import, delete and the like."""

from pathlib import Path
from typing import Annotated

import typer

from genloom_platform.cli.models import Reference, app
from genloom_platform.cli.screen import say

Name = Annotated[str, typer.Argument(help="The model's name.")]
Alias = Annotated[str, typer.Argument(help="As in champion.")]


@app.command("promote")
def promote(
    model: Reference,
    alias: Alias = "champion",
    expect: Annotated[
        int | None,
        typer.Option(
            help="The version that the alias is to be taken from; it stays where that is another. 0: none.",
            metavar="VERSION",
        ),
    ] = None,
) -> None:
    """Let an alias name this version. Of two who move it at the same time, one is told."""
    from genloom_platform.models import aliases
    from genloom_platform.store import Store

    version = aliases.promote(Store(), model, alias, expect)
    say(f"{version.name}@{alias} is version {version.number} now")


@app.command("rollback")
def rollback(name: Name, alias: Alias = "champion") -> None:
    """Let an alias name the version again that it named before."""
    from genloom_platform.models import aliases
    from genloom_platform.store import Store

    version = aliases.rollback(Store(), name, alias)
    say(f"{version.name}@{alias} is version {version.number} again")


@app.command("retire")
def retire(name: Name, alias: Alias) -> None:
    """Let an alias name nothing any more."""
    from genloom_platform.models import aliases
    from genloom_platform.store import Store

    aliases.retire(Store(), name, alias)
    say(f"{name}@{alias} names nothing now; genloom models rollback {name} {alias} brings it back")


@app.command("tag")
def tag(
    model: Reference,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take away.", metavar="KEY")] = None,
) -> None:
    """Write tags to a version, as in: genloom models tag image-vae@3 team=vision reviewed=yes."""
    from genloom.errors import RequestError
    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    pairs = [word.partition("=") for word in tags or []]
    for key, equals, _ in pairs:
        if not equals:
            raise RequestError(f"{key!r} is no tag; write key=value, as in team=vision")
    if not pairs and not remove:
        raise RequestError("give tags, as in team=vision, or --remove KEY")
    registry = Registry(Store())
    version = registry.find(model)
    made = registry.tag(version, {key: value for key, _, value in pairs}, tuple(remove or []))
    shown = "  ".join(f"{key}={value}" for key, value in made.tags.items())
    say(f"{made.full_name}: {shown or 'no tags'}")


@app.command("export")
def export(model: Reference, file: Annotated[Path, typer.Argument(metavar="FILE.zip")]) -> None:
    """Write a version to one file: weights, samples, card, and where it comes from."""
    from genloom_platform.models import archive
    from genloom_platform.store import Store
    from genloom_platform.units import size

    made = archive.export(Store(), model, file)
    say(f"{made.model} is in {file.absolute()}: {len(made.files)} files, {size(file.stat().st_size)}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.zip")],
    name: Annotated[str | None, typer.Option(help="The model's name here.")] = None,
) -> None:
    """Register a version that was exported from another store. It is checked whole before it is written."""
    from genloom import registry as plugins
    from genloom_platform.models import unpack
    from genloom_platform.store import Store

    version = unpack.import_(Store(), file, name)
    say(f"model {version.full_name} is registered")
    release = version.release
    if release.generator["name"] not in plugins.available():
        say(
            f"to use it: pip install {release.package}=={release.package_version}, which brings "
            f"{release.generator['name']}"
        )


@app.command("delete")
def delete(model: Reference) -> None:
    """Delete a version for good. What an alias, another version or an endpoint uses is refused."""
    from genloom_platform.models import removal
    from genloom_platform.store import Store

    version = removal.delete(Store(), model)
    say(f"{version.full_name} is deleted")


@app.command("recover")
def recover() -> None:
    """Make a registry anew whose database is gone, from the files of the store."""
    from genloom_platform.models.recover import recover as make_anew
    from genloom_platform.store import Store

    made = make_anew(Store())
    say(f"registered: {', '.join(v.full_name for v in made)}" if made else "nothing was missing")
