"""`genloom sweep` and `genloom sweeps`. The next file to read is `sweep/launch.py`."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genloom_platform.cli.screen import numbers, pairs, say, table

if TYPE_CHECKING:
    from genloom_platform.store import Store
    from genloom_platform.sweep.plan import Plan

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The sweep's name.")]
SHOWN = 20


def sweep(
    source: Annotated[str, typer.Argument(help="A YAML file.", metavar="SWEEP")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Any key of the sweep, or of its run.", metavar="KEY=VALUE"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The sweep's name; the file's where none.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check and show the sweep; start nothing.")] = False,
) -> None:
    """Train a generator with many settings, and register the best.

    The same command goes on with a sweep that was stopped or cut off. For example:
    genloom sweep sweep.yaml steps=400 trials=30
    """
    from genloom_platform.store import Store
    from genloom_platform.sweep import plan as plans

    store = Store()
    values = plans.read(source, overrides or [])
    if dry_run:
        _show(plans.resolve(values, store))
        return
    from genloom_platform.sweep import launch
    from genloom_platform.sweep.display import SweepDisplay

    with SweepDisplay(store) as display:
        done = launch.sweep(
            store,
            values,
            name or Path(source).stem,
            on_start=display.start,
            on_change=display.change,
            on_event=display.event,
        )
    if done.status.state == "stopped":
        say("stopped; the same command goes on with it")
        return
    for trial in done.best:
        shown = numbers({metric: trial.metrics[metric] for metric in done.sweep.config.metrics})
        say(
            f"model {trial.model} is registered: trial {trial.number}, {shown}, {_params(trial.params)}"
        )
    if not done.best:
        say("no trial trained in full, so nothing is registered")
    say(f"report: {store.url}/sweeps/{done.sweep.name}/report.html")


def _show(plan: "Plan") -> None:
    """The resolved sweep, and its first trials."""
    import yaml

    values = plan.config.model_dump(mode="json", exclude={"run", "space"})
    say(yaml.safe_dump(values, sort_keys=False).rstrip())
    say(f"# {plan.trials} trials of {plan.steps:,} steps, looked at every {plan.every:,}")
    if plan.config.search == "optuna":
        say("# the values of each trial are learnt from those before")
        return
    for number in range(min(plan.trials, SHOWN)):
        say(f"# trial {number}: {_params(plan.params(number))}")


def _state(store: "Store", name: str, state: str) -> str:
    """How a sweep stands; one that nobody runs any more was cut off."""
    from genloom_platform.train import lock

    return "cut off" if state == "running" and not lock.holder(store, name, "sweep") else state


def _params(params: dict[str, object]) -> str:
    return "  ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in params.items()
    )


@app.command("list")
def list_() -> None:
    """Every sweep, the newest first."""
    from genloom_platform.store import Store
    from genloom_platform.sweep import ranking, records

    store = Store()
    rows: list[tuple[str, ...]] = []
    for found, status, trials in records.list_sweeps(store):
        ranked = ranking.ranked(trials, found.config)
        best = {metric: ranked[0].metrics[metric] for metric in found.config.metrics} if ranked else {}
        ended = sum(trial.ended for trial in trials)
        state = _state(store, found.name, status.state)
        rows.append((found.name, state, str(ended), numbers(best), " ".join(status.best)))
    hint = f"no sweep in {store.url} yet; genloom sweep starts one"
    table(("sweep", "state", "trials", "best", "models"), rows, hint)


@app.command("show")
def show(
    name: Name,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """A sweep's state, and its trials, the best first."""
    from genloom_platform.store import Store
    from genloom_platform.sweep import ranking, records
    from genloom_platform.sweep.display import cells

    store = Store()
    found, status, trials = (
        records.find(store, name),
        records.status(store, name),
        records.trials(store, name),
    )
    config = found.config
    if json:
        ended = {trial.model: trial for trial in trials}
        best = [{"model": model, "metrics": ended[model].metrics} for model in status.best]
        typer.echo(dumps({"sweep": found.name, "status": status.model_dump(mode="json"), "best": best}))
        return
    pairs(
        [
            ("sweep", found.name),
            (
                "state",
                _state(store, name, status.state) + (f": {status.message}" if status.message else ""),
            ),
            ("search", f"{config.search}, {config.scheduler.name}"),
            ("models", " ".join(status.best) or "none yet"),
            ("started", f"{found.created_at[:19]} UTC"),
            ("report", f"{store.url}/{records.folder(name)}/{records.REPORT}"),
        ]
    )
    ranked = ranking.ranked(trials, config)
    rows = [
        (*cells(trial, config), f"{trial.step:,}", trial.state, trial.model or trial.message)
        for trial in [*ranked, *(trial for trial in trials if trial not in ranked)]
    ]
    columns = ("trial", *config.metrics, *config.space, "steps", "state", "")
    table(columns, rows, "no trial has begun yet")


@app.command("report")
def report(name: Name) -> None:
    """Write a sweep's report anew, as it stands; says where it is."""
    from genloom_platform.store import Store
    from genloom_platform.sweep import records
    from genloom_platform.sweep import report as reports

    store = Store()
    say(reports.write(store, records.find(store, name), records.trials(store, name)))
