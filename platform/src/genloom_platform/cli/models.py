"""`genloom models`: list, show, promote."""

from typing import Annotated

import typer

from genloom_platform.cli.screen import numbers, pairs, say, table
from genloom_platform.units import size

app = typer.Typer(no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="name, name@version or name@alias")]


@app.command("list")
def list_() -> None:
    """Every version of every model."""
    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    store = Store()
    rows = [
        (
            v.full_name,
            " ".join(v.aliases),
            v.release.dataset,
            size(v.release.weights_bytes),
            numbers(v.metrics),
        )
        for v in Registry(store).versions()
    ]
    hint = f"no model in {store.url} yet; genloom train makes one"
    table(("model", "aliases", "dataset", "weights", "metrics"), rows, hint)


@app.command("show")
def show(model: Reference) -> None:
    """A model's configuration, metrics and lineage."""
    import yaml

    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    store = Store()
    version = Registry(store).find(model)
    release = version.release
    pairs(
        [
            ("model", version.full_name),
            ("aliases", " ".join(version.aliases) or "none"),
            ("metrics", numbers(version.metrics) or "none"),
            ("weights", f"{size(release.weights_bytes)}, SHA-256 {release.weights_sha256}"),
            ("files", f"{store.url}/{release.path}"),
            ("run", f"{release.run}, step {release.step:,}"),
            ("dataset", f"{release.dataset}, SHA-256 {release.dataset_digest}"),
            ("plugin", f"{release.package} {release.package_version}, contract {release.contract}"),
            ("platform", release.platform),
            ("released", release.created_at),
            ("generator", yaml.safe_dump(release.generator, sort_keys=False).rstrip()),
        ]
    )


@app.command("promote")
def promote(model: Reference, alias: Annotated[str, typer.Argument(help="As in champion.")]) -> None:
    """Let an alias name this version."""
    from genloom_platform.models.registry import Registry
    from genloom_platform.store import Store

    registry = Registry(Store())
    version = registry.find(model)
    registry.promote(version, alias)
    say(f"{version.name}@{alias} is version {version.number} now")
