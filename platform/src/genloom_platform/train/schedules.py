"""Learning-rate schedules: the factor on an optimizer's rate, as a pure function of the step.

Nothing of it has to be saved: a resumed run computes the same factors.
"""

import math
from typing import Literal

from pydantic import Field

from genloom_platform.settings import Settings

START = 1 / 25
"""What a one-cycle schedule starts from."""


class Schedule(Settings):
    """How a learning rate goes over a run."""

    name: Literal["constant", "linear", "cosine", "one-cycle"] = "constant"
    """constant; linear or cosine from the whole rate to the floor (Loshchilov and Hutter, SGDR, 2017,
    eq. 5, without restarts); one-cycle rises by a cosine from 1/25 of the rate to the whole of it, and
    falls by another to the floor (Smith and Topin, Super-Convergence, 2018)."""
    warmup: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly to the whole; for one-cycle, the steps of its rise (30 % of the
    run where 0)."""
    floor: float = Field(default=0, ge=0, le=1)
    """The factor at the end of the run."""

    def factor(self, step: int, steps: int) -> float:
        """The factor at a step, counted from 0, of a run of `steps`."""
        if self.name == "one-cycle":
            return self._one_cycle(step, steps)
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.name == "constant":
            return 1.0
        done = (step - self.warmup) / max(1, steps - self.warmup)
        left = 1 - done if self.name == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.floor + (1 - self.floor) * left

    def _one_cycle(self, step: int, steps: int) -> float:
        rise = min(self.warmup or max(1, round(0.3 * steps)), steps)
        if step < rise:
            return _between(START, 1, step / rise)
        return _between(1, self.floor, (step - rise) / max(1, steps - rise))


def _between(first: float, last: float, done: float) -> float:
    """From the first to the last value along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
