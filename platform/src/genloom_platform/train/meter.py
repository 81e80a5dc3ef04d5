"""A meter of torch's memory: what a piece of code allocates on a device, section by section."""

import os
from typing import Any, NamedTuple, Self

import torch

MARK = "genloom section"
os.environ.setdefault(
    "KINETO_LOG_LEVEL", "99"
)  # else the profiler says on the terminal when it starts and stops


class Section(NamedTuple):
    """Bytes beyond those that were allocated when the meter was started."""

    most: int
    """The most at any moment of the section."""
    end: int
    """What was left at its end."""


class Meter:
    """Counts while it is entered.

    On a GPU torch's allocator counts. On a CPU it does not, but its profiler sees every allocation.
    """

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self._profile: Any = None
        self._before = 0
        self.sections: list[Section] = []
        """Those between one `mark` and the next, the last one up to the meter's end."""

    def __enter__(self) -> Self:
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            from torch.profiler import ProfilerActivity, profile

            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.__enter__()
        return self

    def mark(self) -> None:
        """End a section, and begin another."""
        if self._gpu:
            most, end = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
            self.sections.append(Section(most - self._before, end - self._before))
            torch.cuda.reset_peak_memory_stats()
        else:
            with torch.profiler.record_function(MARK):
                pass

    def __exit__(self, *failure: Any) -> None:
        self.mark()
        if not self._gpu:
            self._profile.__exit__(*failure)
            self.sections = _sections(self._profile.profiler.kineto_results.events())


def _sections(events: Any) -> list[Section]:
    found: list[Section] = []
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == MARK:
            found.append(Section(most, now))
            most = now
        elif event.name() == "[memory]" and event.device_type() == torch.profiler.DeviceType.CPU:
            now += event.nbytes()
            most = max(most, now)
    return found
