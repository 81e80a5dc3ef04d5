"""`genloom models`: list, show, compare, card. What changes the registry is in `registry.py`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genloom_platform.cli.screen import console, numbers, pairs, say, table
from genloom_platform.units import size

if TYPE_CHECKING:
    from genloom_platform.models.registry import Version
    from genloom_platform.store import Store

app = typer.Typer(no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="name, name@version or name@alias")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for a program to read.")]


@app.command("list")
def list_() -> None:
    """Every version of every model."""
    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    store = Store()
    rows = [
        (v.full_name, " ".join(v.aliases), v.dataset, _weight(v), _values(v))
        for v in Registry(store).versions()
    ]
    hint = f"no model in {store.url} yet; genloom train makes one"
    table(("model", "aliases", "dataset", "weights", "metrics"), rows, hint)


@app.command("show")
def show(
    model: Reference,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Where it comes from, down to the data's source.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Where its card lies, as HTML.")] = False,
    as_json: AsJson = False,
) -> None:
    """A version's configuration, metrics, aliases and lineage."""
    from genloom.errors import RequestError
    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    if lineage + card + (as_json and not lineage) > 1:
        raise RequestError("give one of --lineage, --card and --json; --lineage and --json go together")
    store = Store()
    version = Registry(store).find(model)
    if lineage:
        _show_lineage(store, version, as_json)
    elif card:
        from genloom_platform.models import card as cards

        cards.read(store, version)
        place = f"{version.place}/{cards.HTML}"
        say(str(store.folder / place) if store.folder else f"{store.url}/{place}")
    elif as_json:
        _show_json(version)
    else:
        _show(store, version)


@app.command("compare")
def compare(one: Reference, other: Reference, as_json: AsJson = False) -> None:
    """Two versions side by side: metrics, settings, data, size."""
    from genloom_platform.models.compare import compare as side_by_side
    from genloom_platform.store import Store

    found = side_by_side(Store(), one, other)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    heads = ("", found.one, found.other)
    metrics = [
        (m.name, m.one, m.other, f"{m.difference:+.4g}" if m.difference is not None else "", m.note)
        for m in found.metrics
    ]
    table((*heads, "difference", ""), metrics, "neither has a metric")
    say("")
    table(heads, [(d.name, d.one, d.other) for d in found.settings], "no setting differs")
    say("")
    table(heads, [(d.name, d.one, d.other) for d in found.others], "")


@app.command("card")
def card(
    model: Reference,
    out: Annotated[
        Path, typer.Option(help="The file: .html holds all, .md has its pictures beside it.")
    ],
) -> None:
    """Write a version's model card to a file."""
    from genloom_platform.models import card as cards
    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    store = Store()
    version = Registry(store).find(model)
    cards.save(store, version, out)
    say(f"the card of {version.full_name} is in {out.absolute()}")


def _values(version: "Version") -> str:
    """Metrics without their intervals, which would fill the line."""
    return numbers({name: float(value) for name, value in version.metrics.items()})


def _weight(version: "Version") -> str:
    """The size of a version's weights; its files may be gone."""
    from genloom.errors import DataError

    try:
        return size(version.release.weights_bytes)
    except DataError:
        return "gone"


def _show(store: "Store", version: "Version") -> None:
    import yaml

    from genloom_platform.models import aliases

    release = version.release
    moves = [
        f"{alias}: {move}"
        for alias in store.names(f"aliases/{version.name}")
        for move in aliases.history(store, version.name, alias)[-3:]
    ]
    pairs(
        [
            ("model", version.full_name),
            ("aliases", " ".join(version.aliases) or "none"),
            *([("moves", "\n".join(moves))] if moves else []),
            ("tags", "  ".join(f"{key}={value}" for key, value in version.tags.items()) or "none"),
            ("metrics", numbers(version.metrics) or "none"),
            ("weights", f"{size(release.weights_bytes)}, SHA-256 {release.weights_sha256}"),
            ("files", f"{store.url}/{release.path}"),
            ("run", f"{release.run}, step {release.step:,}"),
            *([("parent", release.parent)] if release.parent else []),
            ("dataset", f"{release.dataset}, SHA-256 {release.dataset_digest}"),
            ("plugin", f"{release.package} {release.package_version}, contract {release.contract}"),
            ("platform", release.platform),
            ("released", release.created_at),
            ("generator", yaml.safe_dump(release.generator, sort_keys=False).rstrip()),
        ]
    )


def _show_lineage(store: "Store", version: "Version", as_json: bool) -> None:
    import json

    from genloom_platform.models.lineage import endpoints, lineage
    from genloom_platform.observe.trees import tree

    found = endpoints(store, version) or [lineage(store, version)]
    if as_json:
        typer.echo(json.dumps([node.model_dump(mode="json") for node in found], indent=1))
        return
    for node in found:
        console.print(tree(node), soft_wrap=False)


def _show_json(version: "Version") -> None:
    import json

    from genloom_platform.models.record import Registered

    known = Registered.of(version.number, version.metrics, version.tags).model_dump(mode="json")
    known |= {"name": version.name, "aliases": list(version.aliases)}
    typer.echo(json.dumps(known | {"release": version.release.model_dump(mode="json")}, indent=1))
