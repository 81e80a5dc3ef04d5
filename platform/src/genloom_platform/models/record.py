"""What the registry knows of a version, kept beside its weights too: the registry can be made anew of it.

models/<name>/<run>/version.json     its number, its metrics with their intervals, its tags
"""

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from genloom.data import Facts
from genloom_platform.evaluate.measured import Measured
from genloom_platform.store import Store

FILE = "version.json"


class Figure(Facts):
    """A metric."""

    value: float
    low: float | None = None
    """The lower end of its interval, where it has one."""
    high: float | None = None
    on: str = ""
    """What it was measured on."""


class Registered(Facts):
    """What the registry knows of a version beside its release."""

    number: int
    metrics: dict[str, Figure] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, number: int, metrics: Mapping[str, float], tags: Mapping[str, str]) -> Self:
        """The record of what is known now."""
        figures = {
            name: Figure(value=float(value), low=value.low, high=value.high, on=value.on)
            if isinstance(value, Measured)
            else Figure(value=float(value))
            for name, value in metrics.items()
        }
        return cls(number=number, metrics=figures, tags=dict(tags))

    @property
    def measured(self) -> dict[str, float]:
        """The metrics as numbers that carry their intervals."""
        return {
            name: Measured(each.value, each.low, each.high, each.on)
            if each.low is not None and each.high is not None
            else each.value
            for name, each in self.metrics.items()
        }


def write(store: Store, place: str, registered: Registered) -> None:
    """Keep a record in a release's folder."""
    store.write(f"{place}/{FILE}", registered.model_dump_json(indent=1).encode())


def read(store: Store, place: str) -> Registered | None:
    """The record in a release's folder; None where it was never registered."""
    try:
        return Registered.model_validate_json(store.read(f"{place}/{FILE}"))
    except FileNotFoundError:
        return None
