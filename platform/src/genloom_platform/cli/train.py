"""`genloom train`. The next file to read is `train/launch.py`."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from genloom.errors import RequestError, TrainingError
from genloom_platform.cli.screen import numbers, say

if TYPE_CHECKING:
    from genloom_platform.config import RunConfig
    from genloom_platform.store import Store
    from genloom_platform.train.launch import Trained


def train(
    source: Annotated[
        str | None,
        typer.Argument(help="A generator's name, or a YAML file.", metavar="GENERATOR|CONFIG"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Any key of the run or the generator.", metavar="KEY=VALUE"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The dataset: name or name@version.")] = None,
    workers: Annotated[int | None, typer.Option(help="Data-parallel workers.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this run.", metavar="RUN")] = None,
    profile: Annotated[
        bool, typer.Option(help="Write a trace of some steps, which Perfetto opens.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Show the run, its memory, time and cost; start nothing.")
    ] = False,
) -> None:
    """Train a generator on a dataset, evaluate it and register the model.

    For example: genloom train image-vae steps=400 --data digits --workers 2
    """
    from genloom_platform import config as configs
    from genloom_platform.store import Store

    store = Store()
    if resume:
        if source or overrides or data or workers or name or profile or dry_run:
            raise RequestError("--resume goes on with the run as it was; give no other setting")
        _resume(store, resume)
    else:
        if source is None:
            raise RequestError(
                "name a generator or a YAML file, as in: genloom train image-vae --data digits"
            )
        words = list(overrides or [])
        words += [f"data={data}"] if data else []
        words += [f"scale.workers={workers}"] if workers is not None else []
        words += ["profile=true"] if profile else []
        config = configs.resolve(configs.read_values(source, words), store)
        see_through(store, config, name, dry_run)


def see_through(store: "Store", config: "RunConfig", name: str | None, dry_run: bool) -> None:
    """Train as a resolved configuration says, or only show what it would be.

    The run of a job has the job's name; where the job was started before, its run goes on.
    """
    from genloom_platform.jobs import origin
    from genloom_platform.observe.display import Display
    from genloom_platform.train import launch, runs

    if dry_run:
        _preview(store, config)
        return
    job = origin.job()
    name = name or job
    if job and name and runs.of_job(store, name, job):
        _again(store, name)
        return
    with Display(store) as display:
        trained = launch.train(
            store,
            config,
            name=name,
            on_start=display.start,
            on_report=display.report,
            on_event=display.event,
        )
    _tell(trained)


def _again(store: "Store", name: str) -> None:
    """Go on with the run of a job that is started again, once nothing is left of what wrote it."""
    from genloom_platform.jobs import origin
    from genloom_platform.train import lock, runs

    until = time.monotonic() + 2 * lock.LAPSE_S
    while lock.holder(store, name) and time.monotonic() < until:
        time.sleep(1)
    status = runs.status(store, name)
    if status.state == "finished":
        say(f"the run {name} is finished already; model {status.model} is registered")
        return
    say(f"the run {name} goes on from its newest checkpoint, as soon as there is room for it")
    _resume(store, name, origin.PATIENCE_S)


def _resume(store: "Store", name: str, patience_s: float | None = None) -> None:
    from genloom_platform.observe.display import Display
    from genloom_platform.train import launch

    with Display(store) as display:
        trained = launch.resume(
            store,
            name,
            on_start=display.start,
            on_report=display.report,
            on_event=display.event,
            patience_s=patience_s,
        )
    _tell(trained)


def _tell(trained: "Trained") -> None:
    """How a run ended."""
    if trained.model is None:
        say(
            f"stopped at step {trained.status.step:,}; go on with: genloom train --resume {trained.run.name}"
        )
        return
    measured = numbers(trained.model.metrics)
    say(f"model {trained.model.full_name} is registered{': ' + measured if measured else ''}")


def _preview(store: "Store", config: "RunConfig") -> None:
    """Show what the run would be.

    Raises:
        TrainingError: The trial met an error, so the run would.
    """
    from genloom_platform.cli.preview import show
    from genloom_platform.train.preview import preview

    seen = preview(store, config)
    show(seen)
    if seen.trial.error:
        raise TrainingError(f"the run would fail: {seen.trial.error}")
