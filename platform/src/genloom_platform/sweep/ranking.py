"""Which trial is better: by one metric, or by several at once. Pure functions of what is recorded."""

import math
from collections.abc import Sequence

from genloom_platform.sweep.records import Trial
from genloom_platform.sweep.settings import SweepConfig


def costs(trial: Trial, config: SweepConfig) -> tuple[float, ...] | None:
    """What a trial came to, turned so that less is better; None where that is no number."""
    values: list[float] = []
    for metric, mode in zip(config.metrics, config.modes, strict=True):
        value = trial.metrics.get(metric, math.nan)
        if not math.isfinite(value):
            return None
        values.append(value if mode == "min" else -value)
    return tuple(values)


def ranked(trials: Sequence[Trial], config: SweepConfig) -> list[Trial]:
    """Trials that came to something, the best first.

    With several metrics: first those than which no other is better in all, by the first metric; then those of
    which the same is true without them (non-dominated sorting; Deb et al. 2002, NSGA-II, 3.A).
    """
    known = [(cost, trial) for trial in trials if (cost := costs(trial, config)) is not None]
    known.sort(key=lambda row: (row[0], row[1].number))
    order: list[Trial] = []
    while known:
        front = [row for row in known if not any(_dominates(other[0], row[0]) for other in known)]
        order += [trial for _, trial in front]
        known = [row for row in known if row not in front]
    return order


def front(trials: Sequence[Trial], config: SweepConfig) -> list[Trial]:
    """The trials than which no other is better in every metric."""
    known = [(cost, trial) for trial in trials if (cost := costs(trial, config)) is not None]
    return [t for cost, t in known if not any(_dominates(other, cost) for other, _ in known)]


def best(trials: Sequence[Trial], config: SweepConfig) -> list[Trial]:
    """The best of those that trained in full, as many as the sweep registers."""
    return ranked([trial for trial in trials if trial.state == "finished"], config)[: config.best]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
