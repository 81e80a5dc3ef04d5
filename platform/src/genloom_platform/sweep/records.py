"""What is recorded of a sweep, in its store: by these records alone a sweep that was cut off goes on.

sweeps/<name>/sweep.json           what was started; never changed
sweeps/<name>/status.json          how it stands
sweeps/<name>/trials/<run>.json    each trial: its values, what it came to, how it ended
sweeps/<name>/report.html          the report
runs/<run>/…                       the trial itself, a run like any other
"""

from typing import Any, Literal

from genloom.data import Facts
from genloom.errors import UnknownName
from genloom_platform.store import Store
from genloom_platform.sweep.settings import SweepConfig
from genloom_platform.train import checkpoint

REPORT = "report.html"


class Sweep(Facts):
    """What was started."""

    name: str
    config: SweepConfig
    tracking_id: str
    """The sweep's run in MLflow, whose children the trials are."""
    created_at: str


class SweepStatus(Facts):
    """How a sweep stands."""

    state: Literal["running", "finished", "stopped", "failed"]
    best: tuple[str, ...] = ()
    """`name@version` of what was registered, the best first."""
    message: str = ""
    """Why it failed."""
    updated_at: str = ""


class Look(Facts):
    """What a trial had come to when it was looked at."""

    step: int
    metrics: dict[str, float]
    seconds: float
    """Spent on the trial up to then."""


class Change(Facts):
    """A trial that went on from another, with other values."""

    step: int
    """Steps that the other had done."""
    origin: str
    """The other's run."""
    params: dict[str, Any]
    """The trial's values from then on."""


class Trial(Facts):
    """A trial of a sweep."""

    number: int
    run: str
    params: dict[str, Any]
    """Its values, by key of the space; as they are now, where they were changed."""
    first_params: dict[str, Any]
    """Its values when it began."""
    state: Literal["running", "finished", "stopped", "failed"] = "running"
    """Finished: trained in full; stopped: ended early by the scheduler."""
    looks: tuple[Look, ...] = ()
    changes: tuple[Change, ...] = ()
    failures: int = 0
    """How often it was tried again."""
    message: str = ""
    """Why it failed, last."""
    model: str | None = None
    """`name@version`, once it is registered."""
    place: int = 0
    """Which trial of the sweep to end it was, from 1; 0 before."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state != "running"

    @property
    def step(self) -> int:
        """Steps that it had done when it was last looked at."""
        return self.looks[-1].step if self.looks else 0

    @property
    def metrics(self) -> dict[str, float]:
        """What it came to, last."""
        return self.looks[-1].metrics if self.looks else {}

    def with_look(self, look: Look) -> "Trial":
        """With one more look; steps that were done again replace what was seen of them before."""
        before = tuple(each for each in self.looks if each.step < look.step)
        return self.model_copy(update={"looks": (*before, look)})


def folder(name: str) -> str:
    """Where a sweep is."""
    return f"sweeps/{name}"


def run_name(name: str, number: int) -> str:
    """The name of a trial's run."""
    return f"{name}-{number:04d}"


def exists(store: Store, name: str) -> bool:
    """Whether there is a sweep of that name."""
    return store.exists(f"{folder(name)}/sweep.json")


def find(store: Store, name: str) -> Sweep:
    """A sweep by name.

    Raises:
        UnknownName: There is none.
    """
    if not exists(store, name):
        known = [each for each in store.names("sweeps") if exists(store, each)]
        raise UnknownName("sweep", name, known, "genloom sweeps list shows them")
    return Sweep.model_validate_json(store.read(f"{folder(name)}/sweep.json"))


def create(store: Store, sweep: Sweep) -> None:
    """Record a sweep that starts."""
    store.write(f"{folder(sweep.name)}/sweep.json", sweep.model_dump_json(indent=1).encode())


def status(store: Store, name: str) -> SweepStatus:
    """How a sweep stands."""
    return SweepStatus.model_validate_json(store.read(f"{folder(name)}/status.json"))


def set_status(store: Store, name: str, status: SweepStatus) -> None:
    """Replace a sweep's status."""
    stamped = status.model_copy(update={"updated_at": checkpoint.now()})
    store.write(f"{folder(name)}/status.json", stamped.model_dump_json(indent=1).encode())


def trials(store: Store, name: str) -> list[Trial]:
    """The trials of a sweep, by number."""
    place = f"{folder(name)}/trials"
    found = [
        Trial.model_validate_json(store.read(f"{place}/{each}"))
        for each in store.names(place)
        if each.endswith(".json")
    ]
    return sorted(found, key=lambda trial: trial.number)


def record(store: Store, name: str, trial: Trial) -> None:
    """Replace what is recorded of a trial."""
    path = f"{folder(name)}/trials/{trial.run}.json"
    store.write(path, trial.model_dump_json(indent=1).encode())


def list_sweeps(store: Store) -> list[tuple[Sweep, SweepStatus, list[Trial]]]:
    """Every sweep, how it stands, and its trials; the newest first."""
    names = [each for each in store.names("sweeps") if exists(store, each)]
    rows = [(find(store, each), status(store, each), trials(store, each)) for each in names]
    return sorted(rows, key=lambda row: row[0].created_at, reverse=True)
