"""A measured number: its value, its confidence interval, and what it was measured on."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
MAX_NUMBERS = 1 << 20
"""Numbers that are resampled at once."""


class Measured(float):
    """A metric's value; as a number it is that value alone."""

    low: float
    """The lower end of its 95 % confidence interval."""
    high: float
    on: str
    """What it was measured on, as in "198 test rows of digits@292ceec48576"."""

    def __new__(cls, value: float, low: float, high: float, on: str = "") -> Self:  # noqa: D102
        made = super().__new__(cls, value)
        made.low, made.high, made.on = low, high, on
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (float(self), self.low, self.high, self.on)


def shown(value: float) -> str:
    """As a person reads it: `0.989 [0.974, 0.998]`, or the number alone where there is no interval."""
    if isinstance(value, Measured):
        return f"{value:.4g} [{value.low:.4g}, {value.high:.4g}]"
    return f"{value:.4g}"


def share(right: int, count: int, on: str = "") -> float:
    """A share of rows with Wilson's interval, which holds where all or none are right as well."""
    if not on:
        return right / count
    from scipy.stats import binomtest

    ends = binomtest(right, count).proportion_ci(CONFIDENCE, "wilson")
    return Measured(right / count, float(ends.low), float(ends.high), on)


def resampled(
    rows: tuple[NDArray[Any], ...],
    statistic: Callable[..., NDArray[Any]],
    names: list[str],
    on: str = "",
) -> dict[str, float]:
    """Metrics of rows with percentile intervals of the bootstrap (Efron, 1979): rows are drawn again.

    Args:
        rows: Columns of equal length, one value a row.
        statistic: Takes the columns, [..., rows]; gives [names, ...].
        names: The metrics.
        on: What the rows are; empty where no interval is asked for, which saves its time.

    Returns:
        The metrics. One that no resample changes has no interval: the rows tell nothing of its spread.
    """
    from scipy.stats import bootstrap

    values = np.asarray(statistic(*rows), float)
    if not on or len(rows[0]) < 2:
        return dict(zip(names, values.tolist(), strict=True))
    # The same rows give the same interval.
    found = bootstrap(
        rows,
        lambda *drawn, axis: statistic(*drawn),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=max(1, MAX_NUMBERS // len(rows[0])),
        rng=np.random.default_rng(0),
    ).confidence_interval
    ends = zip(names, values.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    return {
        name: Measured(value, low, high, on) if low < high else value for name, value, low, high in ends
    }
