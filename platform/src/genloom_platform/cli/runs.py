"""`genloom runs`: list, show."""

from typing import Annotated

import typer

from genloom_platform.cli.screen import numbers, pairs, table

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Every run, the newest first."""
    from genloom_platform.store import Store
    from genloom_platform.train.runs import list_runs

    store = Store()
    rows = [
        (
            run.name,
            status.state,
            f"{status.step:,}/{run.config.steps:,}",
            run.dataset,
            status.model or "",
        )
        for run, status in list_runs(store)
    ]
    hint = f"no run in {store.url} yet; genloom train starts one"
    table(("run", "state", "steps", "dataset", "model"), rows, hint)


@app.command("show")
def show(run: Annotated[str, typer.Argument(help="The run's name.")]) -> None:
    """A run's configuration, state and metrics."""
    import yaml

    from genloom_platform.store import Store
    from genloom_platform.train import checkpoint, runs

    store = Store()
    found, status = runs.find(store, run), runs.status(store, run)
    saved = checkpoint.newest(store, run)
    pairs(
        [
            ("run", found.name),
            ("state", f"{status.state}{': ' + status.message if status.message else ''}"),
            ("steps", f"{status.step:,} of {found.config.steps:,}"),
            ("metrics", numbers(status.metrics) or "none yet"),
            ("model", status.model or "none yet"),
            ("checkpoint", f"step {saved.step:,}" if saved else "none yet"),
            ("dataset", found.dataset),
            ("plugin", f"{found.package} {found.package_version}"),
            ("started", f"{found.created_at[:19]} UTC"),
            ("logs", f"{store.url}/runs/{run}/logs"),
            (
                "configuration",
                yaml.safe_dump(found.config.model_dump(mode="json"), sort_keys=False).rstrip(),
            ),
        ]
    )
