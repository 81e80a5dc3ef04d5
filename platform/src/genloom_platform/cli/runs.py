"""`genloom runs`: list, show, logs, stop."""

from json import dumps
from typing import Annotated

import typer

from genloom_platform.cli.screen import numbers, pairs, say, table

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
    if any(row[1] == "cut off" for row in rows):
        say("genloom runs show RUN says how one goes on that was cut off")


@app.command("show")
def show(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """A run's configuration, state and metrics."""
    import yaml

    from genloom_platform.store import Store
    from genloom_platform.train import checkpoint, runs

    store = Store()
    found = runs.find(store, run)
    status = runs.standing(store, found)
    if json:
        told = {"run": found.model_dump(mode="json"), "status": status.model_dump(mode="json")}
        typer.echo(dumps(told))
        return
    state = f"{status.state}{': ' + status.message if status.message else ''}"
    if status.state == "cut off":
        state += f": no process is writing it any more; {runs.go_on_with(found)}"
    steps = f"{status.step:,} of {found.config.steps:,}"
    if status.state in ("running", "cut off") and status.step:
        steps += ", by its newest checkpoint"
    saved = checkpoint.committed(store, run)
    ends = [
        f"{a.number}: steps {a.from_step:,} to {a.step:,}, {a.workers} "
        f"worker{'s' if a.workers > 1 else ''}, {a.ending}{': ' + a.message if a.message else ''}"
        for a in runs.history(store, run)
    ]
    pairs(
        [
            ("run", found.name),
            ("state", state),
            ("steps", steps),
            ("metrics", numbers(status.metrics) or "none yet"),
            ("model", status.model or "none yet"),
            ("checkpoints", f"step {', '.join(f'{s:,}' for s in saved)}" if saved else "none yet"),
            ("attempts", "\n".join(ends) or "none has ended yet"),
            ("start", "\n".join(found.start.lines) if found.start else "new weights"),
            ("dataset", found.dataset),
            ("plugin", f"{found.package} {found.package_version}{_wheel(found.package_digest)}"),
            *([("job", found.job)] if found.job else []),
            ("started", f"{found.created_at[:19]} UTC"),
            ("logs", f"{store.url}/runs/{run}/logs"),
            (
                "configuration",
                yaml.safe_dump(found.config.model_dump(mode="json"), sort_keys=False).rstrip(),
            ),
        ]
    )


def _wheel(digest: str | None) -> str:
    return f", wheel sha256:{digest[:12]}" if digest else ""


@app.command("logs")
def logs(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    rank: Annotated[int, typer.Option(help="The worker whose log it is.")] = 0,
    follow: Annotated[bool, typer.Option(help="Go on until the run ends.")] = False,
) -> None:
    """What a run's worker printed, the engines' words included."""
    from genloom_platform.store import Store
    from genloom_platform.train import logs, runs

    store = Store()
    runs.find(store, run)
    for text in logs.read(store, run, rank, follow=follow):
        typer.echo(text, nl=False)


@app.command("stop")
def stop(run: Annotated[str, typer.Argument(help="The run's name.")]) -> None:
    """Save a run and end it; `genloom train --resume RUN` goes on."""
    import time

    from genloom.errors import RequestError
    from genloom_platform.store import Store
    from genloom_platform.train import lock, runs

    store = Store()
    found = runs.find(store, run)
    if lock.holder(store, run) is None:
        state = runs.standing(store, found).state
        if state == "running":
            raise RequestError(
                f"the run {run} is a trial of the sweep {found.sweep}, which is running; end that: Ctrl-C, there"
            )
        # A trial that is stopped may have been so by its sweep, for good.
        goes_on = state == "cut off" or (state == "stopped" and not found.sweep)
        more = f"; {runs.go_on_with(found)}" if goes_on else ""
        raise RequestError(f"no process is writing the run {run}; it is {state}{more}")
    runs.ask_to_stop(store, run)
    say(f"asked {run} to save and end …")
    while lock.holder(store, run):
        time.sleep(0.5)
    status = runs.standing(store, found)
    more = "" if status.state == "finished" else f"; {runs.go_on_with(found)}"
    say(f"{run} is {status.state} at step {status.step:,}{more}")
