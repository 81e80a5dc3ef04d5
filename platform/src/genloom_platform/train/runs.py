"""Runs: what was started, and how it stands. `run.json` never changes, `status.json` is replaced.

runs/<run>/run.json · status.json · history.json · checkpoints/ · logs/
"""

import datetime
from contextlib import suppress
from typing import Literal

from pydantic import Field

from genloom.data import Facts
from genloom.errors import RequestError, UnknownName
from genloom_platform.config import RunConfig
from genloom_platform.models.start import Start
from genloom_platform.names import identifier
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, lock
from genloom_platform.train.failures import DamagedCheckpoint
from genloom_platform.train.recovery import Attempt


class Run(Facts):
    """What was started."""

    name: str
    config: RunConfig
    dataset: str
    """`name@version`."""
    package: str
    package_version: str
    package_digest: str | None = None
    """SHA-256 of the package's wheel, where it travelled with a job."""
    job: str | None = None
    """The job that started it."""
    tracking_id: str
    """The run's id in MLflow."""
    created_at: str
    start: Start | None = None
    """What it starts with, where it is a finetune."""
    sweep: str | None = None
    """The sweep that it is a trial of."""


class Status(Facts):
    """How a run stands."""

    state: Literal["running", "finished", "stopped", "failed", "cut off"]
    """Cut off is never written: it is what a running one is that no process writes any more."""
    step: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    model: str | None = None
    """`name@version` of what came out."""
    message: str = ""
    """Why it failed."""
    updated_at: str = ""


def new_name(store: Store, generator: str) -> str:
    """A name for a run: the generator and the time, and a number where that is taken."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%m%d-%H%M%S")
    taken = set(store.names("runs"))
    name, number = f"{generator}-{stamp}", 1
    while name in taken:
        number += 1
        name = f"{generator}-{stamp}-{number}"
    return name


def claim(store: Store, name: str) -> str:
    """The name, where no run has it.

    Raises:
        RequestError: One has.
    """
    if store.exists(f"runs/{identifier('run', name)}/run.json"):
        raise RequestError(f"there is a run {name!r} already; give another name, or --resume {name}")
    return name


def create(store: Store, run: Run) -> None:
    """Record a run that starts."""
    store.write(f"runs/{run.name}/run.json", run.model_dump_json(indent=1).encode())
    set_status(store, run.name, Status(state="running"))


def find(store: Store, name: str) -> Run:
    """A run by name.

    Raises:
        UnknownName: There is none.
    """
    names = store.names("runs")
    if name not in names or not store.exists(f"runs/{name}/run.json"):
        raise UnknownName("run", name, names, "genloom runs list shows them")
    return Run.model_validate_json(store.read(f"runs/{name}/run.json"))


def of_job(store: Store, name: str, job: str) -> bool:
    """Whether there is a run of that name, and the job started it."""
    return store.exists(f"runs/{name}/run.json") and find(store, name).job == job


def status(store: Store, name: str) -> Status:
    """How a run stands."""
    return Status.model_validate_json(store.read(f"runs/{name}/status.json"))


def standing(store: Store, run: Run) -> Status:
    """How a run stands now: while it trains, as far as its newest checkpoint says; and whether it still does."""
    found = status(store, run.name)
    if found.state != "running":
        return found
    if not is_written(store, run):
        found = status(store, run.name)  # the last that a process writes before it lets the run go
        if found.state != "running":
            return found
        found = found.model_copy(update={"state": "cut off"})
    for step in checkpoint.committed(store, run.name):
        with suppress(DamagedCheckpoint):  # or pruned meanwhile
            saved = checkpoint.read(store, run.name, step)
            return found.model_copy(update={"step": saved.step, "metrics": saved.metrics})
    return found


def is_written(store: Store, run: Run) -> bool:
    """Whether a process writes a run now: its own, or its sweep's."""
    own = lock.holder(store, run.name)
    return bool(own or (run.sweep and lock.holder(store, run.sweep, "sweep")))


def go_on_with(run: Run) -> str:
    """What goes on with a run that was stopped or cut off, in words."""
    if run.sweep:
        return f"its sweep goes on with it: genloom sweep, with the file and the name of {run.sweep}"
    return f"go on with: genloom train --resume {run.name}"


def set_status(store: Store, name: str, status: Status) -> None:
    """Replace a run's status."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    stamped = status.model_copy(update={"updated_at": now})
    store.write(f"runs/{name}/status.json", stamped.model_dump_json(indent=1).encode())


def history(store: Store, name: str) -> list[Attempt]:
    """How the attempts at a run ended so far, the first first."""
    try:
        return [Attempt.model_validate(each) for each in store.read_json(f"runs/{name}/history.json")]
    except FileNotFoundError:
        return []


def record(store: Store, name: str, attempts: list[Attempt]) -> None:
    """Replace a run's history."""
    store.write_json(f"runs/{name}/history.json", [each.model_dump() for each in attempts])


def ask_to_stop(store: Store, name: str) -> None:
    """Ask whoever writes a run to save and end it."""
    store.write(f"runs/{name}/stop", b"")


def asked_to_stop(store: Store, name: str) -> bool:
    """Whether someone has."""
    return store.exists(f"runs/{name}/stop")


def list_runs(store: Store) -> list[tuple[Run, Status]]:
    """Every run and how it stands now, the newest first."""
    names = [name for name in store.names("runs") if store.exists(f"runs/{name}/run.json")]
    found = [Run.model_validate_json(store.read(f"runs/{name}/run.json")) for name in names]
    rows = [(run, standing(store, run)) for run in found]
    return sorted(rows, key=lambda row: row[0].created_at, reverse=True)
