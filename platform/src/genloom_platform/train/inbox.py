"""The way between the workers and the driver: reports and signs of life one way, a wish to stop the other."""

import time
from dataclasses import replace
from typing import Any, NamedTuple

from genloom_platform.train.progress import Report
from genloom_platform.train.recovery import Sign


class Place(NamedTuple):
    """Where a worker runs."""

    node: str
    process: int


class Shown(NamedTuple):
    """Samples that a run has made of its model while it trains."""

    step: int
    places: tuple[str, ...]
    """Files in the store."""
    fault: str
    """Why there are none; empty where there are."""


class News(NamedTuple):
    """All that was left since the last look."""

    reports: list[Report]
    signs: dict[int, Sign]
    """Of each rank that has begun and not ended."""
    places: dict[int, Place]
    ended_at: int | None
    """The step that the attempt ended on; None before."""
    shown: list[Shown]


class Inbox:
    """An actor that the driver empties."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, attempt: int) -> None:
        """Another attempt: what comes from those before is dropped from now on."""
        self._attempt = attempt
        self._reports: list[Report] = []
        self._shown: list[Shown] = []
        self._signs: dict[int, tuple[float, Sign]] = {}
        self._places: dict[int, Place] = {}
        self._ended_at: int | None = None
        self._stop = False

    def put(self, attempt: int, report: Report) -> bool:
        """Leave a report; returns whether the driver wishes to stop."""
        if attempt == self._attempt:
            self._reports.append(report)
        return self._stop

    def show(self, attempt: int, shown: Shown) -> None:
        """Leave word of samples."""
        if attempt == self._attempt:
            self._shown.append(shown)

    def beat(self, attempt: int, rank: int, place: Place, sign: Sign | None) -> None:
        """Leave a sign of life; None where the rank has ended."""
        if attempt != self._attempt:
            return
        self._places[rank] = place
        if sign:
            self._signs[rank] = (time.monotonic(), sign)
        else:
            self._signs.pop(rank, None)

    def end(self, attempt: int, step: int) -> None:
        """The attempt has come to its end at a step, and its last checkpoint is committed."""
        if attempt == self._attempt:
            self._ended_at = step

    def take(self) -> News:
        """The news since the last call."""
        reports, self._reports = self._reports, []
        shown, self._shown = self._shown, []
        now = time.monotonic()
        signs = {
            rank: replace(sign, silent_s=now - heard_at)
            for rank, (heard_at, sign) in self._signs.items()
        }
        return News(reports, signs, dict(self._places), self._ended_at, shown)

    def stop(self) -> None:
        """Ask the attempt to save and end."""
        self._stop = True


def start_inbox() -> Any:
    """An inbox on the node of this process, which lives as long as this process does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Inbox).remote()
