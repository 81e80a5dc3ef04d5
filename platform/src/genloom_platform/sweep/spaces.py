"""The search space: which values a trial may have, drawn one after the other, with conditions.

Pure functions; who draws decides what comes: chance, Optuna, or a walk through all points.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from genloom_platform.config import RunConfig
from genloom_platform.sweep.settings import Dimension

Space = Mapping[str, Dimension]
Params = dict[str, Any]
"""The values of one trial, by key."""


class Draw(Protocol):
    """Draws a value for a key."""

    def number(self, key: str, low: float, high: float, log: bool) -> float:
        """A number between two."""
        ...

    def whole(self, key: str, low: int, high: int, step: int) -> int:
        """A whole number, by steps."""
        ...

    def one_of(self, key: str, choice: tuple[Any, ...]) -> Any:
        """One of some values."""
        ...


class Chance:
    """Draws at random, for a trial's number always the same."""

    def __init__(self, *seeds: int) -> None:
        self._rng = np.random.default_rng(seeds)

    def number(self, key: str, low: float, high: float, log: bool) -> float:
        """A number between two, all alike, or all powers alike."""
        share = float(self._rng.random())
        return min(high, low * (high / low) ** share) if log else low + (high - low) * share

    def whole(self, key: str, low: int, high: int, step: int) -> int:
        """A whole number, by steps."""
        return low + step * int(self._rng.integers((high - low) // step + 1))

    def one_of(self, key: str, choice: tuple[Any, ...]) -> Any:
        """One of some values."""
        return choice[int(self._rng.integers(len(choice)))]

    def happens(self, probability: float) -> bool:
        """Whether something of a probability happens."""
        return float(self._rng.random()) < probability


def path(key: str) -> list[str]:
    """Where a key lies in a run's values. A first part that is no key of the run is the generator's."""
    parts = key.split(".")
    return parts if parts[0] in RunConfig.model_fields else ["generator", *parts]


def ordered(space: Space) -> list[str]:
    """The keys, each after those that it depends on; those that depend on each other are left out."""
    done: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [key for key in waiting if all(other in done for other in space[key].when)]
        if not ready:
            break
        done += ready
        waiting = [key for key in waiting if key not in ready]
    return done


def drawn(space: Space, draw: Draw) -> Params:
    """The values of one trial."""
    params: Params = {}
    for key in ordered(space):
        if applies(space[key], params):
            params[key] = value_of(key, space[key], draw)
    return params


def value_of(key: str, dimension: Dimension, draw: Draw) -> Any:
    """A value for one key."""
    if dimension.choice is not None:
        return draw.one_of(key, dimension.choice)
    if dimension.int_range:
        return draw.whole(key, dimension.int_range[0], dimension.last, dimension.step)
    low, high = dimension.bounds
    return draw.number(key, low, high, dimension.log_range is not None)


def applies(dimension: Dimension, params: Params) -> bool:
    """Whether a key's conditions are met."""
    return all(key in params and params[key] in allowed(value) for key, value in dimension.when.items())


def allowed(value: Any) -> list[Any]:
    """The values that a condition names."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def grid(space: Space) -> Iterator[Params]:
    """Every point of a space of choices."""
    yield from _points(space, ordered(space), {})


def _points(space: Space, keys: list[str], params: Params) -> Iterator[Params]:
    if not keys:
        yield params
        return
    key, *rest = keys
    if not applies(space[key], params):
        yield from _points(space, rest, params)
        return
    for value in space[key].choice or ():
        yield from _points(space, rest, params | {key: value})


def probes(dimension: Dimension) -> list[Any]:
    """Values that stand for all of a dimension: its ends, and one between that shows its kind."""
    if dimension.choice is not None:
        return list(dimension.choice)
    low, high = dimension.bounds
    if dimension.int_range:
        return list(
            dict.fromkeys([low, min(int(low) + dimension.step, dimension.last), dimension.last])
        )
    return [low, low + (high - low) * 0.3819660113, high]


def enabling(space: Space, key: str) -> Params:
    """The first values by which a key's conditions are met."""
    params: Params = {}
    for other, value in space[key].when.items():
        params |= enabling(space, other) | {other: allowed(value)[0]}
    return params
