"""How far a run is, and where its time goes: what the loop measures and hands on."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

PHASES = ("data", "compute", "communication", "checkpoint")
COLLECTIVES = (
    "all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "barrier", "broadcast",
    "reduce", "reduce_scatter", "reduce_scatter_tensor",
)  # fmt: skip


class Report(NamedTuple):
    """What all ranks have come to since the last report."""

    step: int
    """Steps done."""
    metrics: list[dict[str, float]]
    """Of each step since the last report, as means over the ranks."""
    rows_per_s: float
    seconds: dict[str, float]
    """Of one step, by phase, as means over the ranks: data, compute, communication, checkpoint."""
    memory_bytes: int = 0
    """The most that a worker holds: of its GPU at its peak, else of the host."""
    mfu: float | None = None
    """Model FLOPs utilisation, from 0 to 1 (Chowdhery et al., PaLM, 2022, appendix B); None where unknown."""


def figures(report: Report) -> str:
    """The newest step's losses and metrics, and the pace."""
    last = report.metrics[-1] if report.metrics else {}
    values = [f"{name} {value:.4g}" for name, value in last.items()]
    return "  ".join([*values, f"{report.rows_per_s:,.0f} rows/s"])


def _mark(phase: str) -> Any:
    import torch

    return torch.profiler.record_function(phase)


class Clock:
    """What a rank is doing, and what it has spent on it."""

    def __init__(self, *, marked: bool = False) -> None:
        """A clock; where `marked`, its phases stand in the traces of torch's profiler."""
        self._marked = marked
        self.step = 0
        """Steps begun."""
        self.phase = "start"
        self.changed_at = time.monotonic()
        """When the phase began."""
        self._spent: dict[str, float] = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def spend(self, phase: str) -> Generator[None]:
        """Count the time of a block as a phase's."""
        outer = self.phase
        self.phase, self.changed_at = phase, time.monotonic()
        begun = self.changed_at
        try:
            with _mark(phase) if self._marked else nullcontext():
                yield
        finally:
            self.phase, self.changed_at = outer, time.monotonic()
            spent = self.changed_at - begun
            self._spent[phase] += spent
            if outer in self._spent:
                self._spent[outer] -= spent  # the inner phase is no part of the outer one

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last call."""
        spent = self._spent
        self._spent = dict.fromkeys(PHASES, 0.0)
        return spent

    @contextmanager
    def collectives(self) -> Generator[None]:
        """Count what torch's collectives take, as the host sees it, as communication.

        On a GPU collectives are queued, and what they take shows in the next wait for it instead.
        """
        import torch.distributed as dist

        def timed(function: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                if self.phase == "communication":
                    return function(*arguments, **named)
                with self.spend("communication"):
                    return function(*arguments, **named)

            return call

        kept = {name: getattr(dist, name) for name in COLLECTIVES}
        try:
            for name, function in kept.items():
                setattr(dist, name, timed(function))
            yield
        finally:
            for name, function in kept.items():
                setattr(dist, name, function)


def held_bytes() -> int:
    """What this process holds: of its GPU's memory at its peak, where it has one, else of the host's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10  # kB
    return 0
