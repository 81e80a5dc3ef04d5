"""`SweepConfig`: what a sweep is told, in one YAML file; `plan.py` checks it against the generator's schema."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from genloom_platform.config import parse_value
from genloom_platform.settings import Settings

Mode = Literal["min", "max"]


class Dimension(Settings):
    """What one key of the run or of the generator may be."""

    range: tuple[float, float] | None = None
    """Any number from one to another, all alike."""
    log_range: tuple[float, float] | None = None
    """The same, where each power of ten is alike: for learning rates."""
    int_range: tuple[int, int] | None = None
    """Whole numbers, both ends included."""
    step: int = Field(default=1, ge=1)
    """What lies between two whole numbers of `int_range`."""
    choice: tuple[Any, ...] | None = None
    """One of these."""
    when: dict[str, Any] = Field(default_factory=dict)
    """The key is drawn only where others of the space have these values (or one of a list of values), as in
    `{optimizer.name: SGD}`; elsewhere it stays what the run says."""

    @field_validator("choice")
    @classmethod
    def _as_numbers(cls, choice: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """YAML reads 1e-3 as text; a person means the number."""
        return choice and tuple(_number(value) for value in choice)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("range", "log_range", "int_range", "choice")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError("takes one of range, log_range, int_range and choice")
        if self.choice is not None and len({repr(value) for value in self.choice}) < max(
            1, len(self.choice)
        ):
            raise ValueError("choice needs at least one value, and each once")
        if self.choice is None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"{given[0]} must go from a number to a greater one")
        if self.log_range and self.log_range[0] <= 0:
            raise ValueError("log_range must start above 0")
        if self.step != 1 and not self.int_range:
            raise ValueError("step belongs to int_range")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest number; of anything but a choice."""
        found = self.range or self.log_range or self.int_range
        assert found
        return found

    @property
    def last(self) -> int:
        """The greatest whole number that `int_range` reaches by its steps."""
        assert self.int_range
        low, high = self.int_range
        return low + (high - low) // self.step * self.step


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        float(value)
    except ValueError:
        return value
    return parse_value(value)


class NoScheduler(Settings):
    """Every trial trains in full."""

    name: Literal["none"] = "none"


class Asha(Settings):
    """Asynchronous successive halving: at each rung only the best go on (Li et al. 2018, arXiv:1810.05934)."""

    name: Literal["asha"] = "asha"
    grace: int | None = Field(default=None, ge=1)
    """The first rung, in steps; the first look where none is given."""
    factor: float = Field(default=4, gt=1)
    """One of so many trials passes a rung, and the next one lies so many times further."""
    brackets: int = Field(default=1, ge=1)
    """Groups of trials whose first rung lies later and later."""


class HyperBand(Settings):
    """HyperBand: brackets of trials that are paused, halved and continued (Li et al. 2017, arXiv:1603.06560)."""

    name: Literal["hyperband"] = "hyperband"
    factor: float = Field(default=3, gt=1)
    """One of so many trials of a bracket goes on."""


class Median(Settings):
    """A trial whose best is worse than the median of the others' means is stopped (Golovin et al. 2017)."""

    name: Literal["median"] = "median"
    grace: int | None = Field(default=None, ge=1)
    """Steps before which none is stopped; those of the first look where none is given."""
    trials: int = Field(default=3, ge=1)
    """Trials that must have come as far before one is stopped."""


class Pbt(Settings):
    """Population based training: at each look the worst go on from the best, with other settings.

    Jaderberg et al. 2017 (arXiv:1711.09846).
    """

    name: Literal["pbt"] = "pbt"
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """The share of the trials that goes on from as many of the best."""
    resample: float = Field(default=0.25, ge=0, le=1)
    """How often a value is drawn anew; else it is changed by a fifth, or to a neighbour of its choices."""
    perturb: tuple[str, ...] | None = None
    """Keys of the space that are changed. Where none are given, those of the run whose change leaves a
    checkpoint loadable: all but `optimizer.name` and the like. What shapes the model stays as in the trial
    that is gone on from."""


Scheduler = NoScheduler | Asha | HyperBand | Median | Pbt
SCHEDULERS: dict[str, type[Settings]] = {
    "none": NoScheduler,
    "asha": Asha,
    "hyperband": HyperBand,
    "median": Median,
    "pbt": Pbt,
}


class SweepConfig(Settings):
    """One sweep."""

    run: dict[str, Any]
    """What every trial is, as `genloom train` takes it: `{generator: {name: image-vae}, data: digits}`."""
    space: dict[str, Dimension] = Field(min_length=1)
    """What is tried: a key of the run or of the generator, and its values:
    `{optimizer.lr: {log_range: [1e-4, 1e-1]}, width: {choice: [8, 16]}}`."""
    metric: str | tuple[str, ...]
    """What a trial is judged by: a metric of its training (`loss`) or of its validation
    (`validation/accuracy`, where the run has `validation: {share: 0.1}`); several for a front of trade-offs."""
    mode: Mode | tuple[Mode, ...]
    """Whether the least is best, `min`, or the greatest, `max`; one for each metric."""
    trials: int | None = Field(default=None, ge=1)
    """How many runs; a grid has as many as it has points."""
    search: Literal["random", "grid", "optuna"] = "random"
    """How values are found: at random, all of them, or by Optuna's TPE (Bergstra et al. 2011), which learns from
    the trials before."""
    scheduler: Scheduler = Field(default_factory=NoScheduler)
    """Which trials are stopped early, or go on from others: none, asha, hyperband, median, pbt."""
    every: int | None = Field(default=None, ge=1)
    """Steps between two looks at a trial: it is saved, validated and judged. A twentieth of the run where none
    is given."""
    concurrent: int | None = Field(default=None, ge=1)
    """Trials at the same time, at most. Where none is given, as many as the cluster has room for, or as its
    autoscaler can bring room for."""
    best: int = Field(default=1, ge=1)
    """How many of the best are evaluated in full and registered; only trials that trained in full are."""
    retries: int = Field(default=1, ge=0)
    """How often a trial that fails is tried again, from its newest checkpoint."""
    seed: int = Field(default=0, ge=0)
    """What the values that are tried depend on; the trials' own seed is the run's."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics, one or several."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The mode of each."""
        return (self.mode,) if isinstance(self.mode, str) else self.mode
