"""Recovery: what a run does when an attempt at it has ended. Pure functions of the failure and the history.

An attempt is one group of workers, from its start to its end. `decide` says what follows; `launch.py`
acts on it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from genloom.data import Facts
from genloom_platform.config import Recovery, Scale

Ending = Literal[
    "finished", "stopped", "resized", "preempted",
    "worker died", "worker hung", "not a number", "damaged checkpoint", "out of memory", "store away", "error",
]  # fmt: skip
RETRIED: frozenset[Ending] = frozenset({"worker died", "worker hung", "store away"})
"""Failures that another attempt may not meet."""
MAX_WAIT_S = 60.0


class Attempt(Facts):
    """How an attempt went."""

    number: int
    workers: int
    from_step: int
    """Steps that were done when it began."""
    step: int
    """The last step that was reported."""
    ending: Ending
    message: str = ""
    ended_at: str = ""
    bad_step: int | None = None
    """The step whose loss was not a number, or whose checkpoint is damaged."""


@dataclass(frozen=True)
class GoOn:
    """Start another attempt."""

    wait_s: float = 0
    """After so many seconds."""
    reason: str = ""


@dataclass(frozen=True)
class GiveUp:
    """The run has failed."""

    message: str


@dataclass(frozen=True)
class End:
    """The run has ended as was asked for."""

    finished: bool


Decision = GoOn | GiveUp | End


@dataclass(frozen=True)
class Avoid:
    """What the attempts so far have taught to leave alone."""

    steps: frozenset[int] = field(default_factory=frozenset[int])
    """Steps to pass over."""
    checkpoints: frozenset[int] = field(default_factory=frozenset[int])
    """Steps whose checkpoints are damaged."""


def decide(history: Sequence[Attempt], settings: Recovery) -> Decision:
    """What follows the last of a run's attempts.

    Retries are counted since a checkpoint was last reached: a run that comes further is not given up.
    """
    last = history[-1]
    if last.ending in ("finished", "stopped"):
        return End(finished=last.ending == "finished")
    if last.ending in ("resized", "preempted"):
        return GoOn(reason=last.message)
    if last.ending == "damaged checkpoint":
        return GoOn(reason=last.message)
    if last.ending == "not a number":
        passed = len(avoid(history).steps)
        if settings.nan != "rollback":
            return GiveUp(last.message)
        if passed > settings.nan_limit:
            return GiveUp(
                f"{last.message}; {settings.nan_limit} steps were passed over already (recovery.nan_limit)"
            )
        return GoOn(reason=f"{last.message}; that step is passed over")
    if last.ending not in RETRIED:
        return GiveUp(last.message)
    failures = failures_in_a_row(history)
    if failures > settings.retries:
        times = f"{failures} times" if failures > 1 else "once"
        return GiveUp(
            f"{last.message}; it failed {times} without reaching another checkpoint, and "
            f"recovery.retries is {settings.retries}"
        )
    wait_s = 0 if failures == 1 else min(MAX_WAIT_S, 2.0 ** (failures - 1))
    return GoOn(wait_s, f"{last.message}; retry {failures} of {settings.retries}")


def failures_in_a_row(history: Sequence[Attempt]) -> int:
    """Failures at the end of the history that no newer checkpoint lies between."""
    count = 0
    for index in range(len(history) - 1, -1, -1):
        attempt = history[index]
        if attempt.ending not in RETRIED:
            continue
        if count and attempt.from_step < history[-1].from_step:
            break  # the attempts after it began further on
        count += 1
    return count


def vain_resizes(history: Sequence[Attempt]) -> int:
    """How often in a row, at the end of the history, room for more workers was seen and then not there.

    Room is measured while others may take it; the attempt after the last resize counts as running.
    """
    count = 0
    for before, after in zip(history[-2::-1], history[:0:-1], strict=True):
        if before.ending != "resized" or after.workers > before.workers:
            break
        count += 1
    return count


def avoid(history: Sequence[Attempt]) -> Avoid:
    """The steps that attempts ended on, and the checkpoints, until a later attempt has come past one.

    It has then saved that checkpoint anew.
    """
    bad = [(number, a.ending, a.bad_step) for number, a in enumerate(history) if a.bad_step is not None]
    furthest = [
        max((a.step for a in history[number + 1 :]), default=0) for number in range(len(history))
    ]
    return Avoid(
        frozenset(step for _, ending, step in bad if ending == "not a number"),
        frozenset(
            step
            for number, ending, step in bad
            if ending == "damaged checkpoint" and furthest[number] <= step
        ),
    )


def workers_for(scale: Scale, slots: int, parts: int) -> int:
    """The greatest number of workers that a run allows and a cluster has room for; 0 where there is none.

    Args:
        scale: The run's.
        slots: How many workers there is room for.
        parts: What the number of workers must divide: micro batches of one row each in a global batch.
    """
    for workers in range(min(scale.most, slots), scale.fewest - 1, -1):
        if parts % workers == 0:
            return workers
    return 0


@dataclass(frozen=True)
class Sign:
    """The last that was heard of a worker."""

    step: int
    phase: str
    phase_s: float
    """How long it has been in that phase."""
    silent_s: float
    """How long ago that was."""
    memory_bytes: int = 0
    """What it holds: of its GPU at its peak, else of the host."""


BUSY_FACTOR = 20
"""A step may take so many times the mean step before its worker counts as hung."""
START_FACTOR = 10
"""The first step may take so many times longer: libraries are loaded, models built and compiled."""


def hung(signs: dict[int, Sign], step_s: float, settings: Recovery) -> list[int]:
    """The ranks that are hung, those first that hold the others up.

    Args:
        signs: The last sign of each rank that has begun and not ended.
        step_s: Seconds of a step so far; 0 where none is done.
        settings: The run's.
    """
    limit = settings.hung_s * START_FACTOR if not step_s else max(settings.hung_s, BUSY_FACTOR * step_s)
    silent = [rank for rank, sign in signs.items() if sign.silent_s > settings.hung_s]
    if silent:
        return silent
    stuck = [
        rank
        for rank, sign in signs.items()
        if sign.phase != "checkpoint" and sign.phase_s + sign.silent_s > limit
    ]
    return sorted(stuck, key=lambda rank: signs[rank].phase == "communication")


def never_heard(heard: Collection[int], workers: int, since_s: float, settings: Recovery) -> list[int]:
    """The ranks that should have given a first sign of life by now.

    Args:
        heard: The ranks that have.
        workers: How many there are to be.
        since_s: Seconds since they began to start.
        settings: The run's.
    """
    if since_s <= settings.hung_s * START_FACTOR:
        return []
    return [rank for rank in range(workers) if rank not in heard]
