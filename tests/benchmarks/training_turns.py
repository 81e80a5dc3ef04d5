"""Turns: contenders that train beside each other in processes of their own, one at a time.

A contender asks for batches, as a training loop does; between two turns it is kept waiting for the next one,
whatever library owns its loop. A turn's time is from its first batch to when the batch after its last one is
asked for: so many whole steps.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ACCEPT_S = 1.0
START_S = 120.0
"""How long a contender may take to ask for its first batch."""
STEP_S = 120.0
"""How long a turn may take."""


class Gone(Exception):
    """A contender cannot go on; says why."""


class Turns:
    """One rank's batches of one contender."""

    def __init__(
        self, place: str, contender: str, case: str, rank: int, batches: Iterator[Any]
    ) -> None:
        self._batches = batches
        line = socket.socket(socket.AF_UNIX)
        line.connect(place)
        self._line = line.makefile("rw")
        self._say(contender=contender, case=case, rank=rank)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches as arrays; each turn's time is told when it is over."""
        while steps := json.loads(self._line.readline())["steps"]:
            begun = time.perf_counter()
            for _ in range(steps):
                yield next(self._batches)
            self._say(seconds=time.perf_counter() - begun)

    def tensors(self) -> Iterator[dict[str, torch.Tensor]]:
        """The same as tensors."""
        return ({name: torch.from_numpy(array) for name, array in each.items()} for each in self)

    def end(self, losses: Mapping[int, float]) -> None:
        """Tell the losses by step, as means over the ranks."""
        self._say(losses=dict(losses))

    def fail(self, fault: str) -> None:
        """Tell why there are none."""
        with suppress(OSError):  # the other rank's word was enough
            self._say(fault=fault)

    def _say(self, **words: Any) -> None:
        self._line.write(json.dumps(words) + "\n")
        self._line.flush()


@dataclass
class Contender:
    """Both ranks of a contender on a case, waiting for their turn."""

    lines: dict[int, Any]

    def turn(self, steps: int) -> float:
        """Let it do some steps; seconds, of the slower rank."""
        try:
            for line in self.lines.values():
                line.write(json.dumps({"steps": steps}) + "\n")
                line.flush()
        except OSError:
            for line in self.lines.values():
                self._heard(line)  # its last words
        return max(self._heard(line)["seconds"] for line in self.lines.values()) if steps else 0.0

    def end(self) -> dict[int, float]:
        """Let it come to its end; its losses by step."""
        self.turn(0)
        found = [self._heard(line)["losses"] for line in self.lines.values()]
        return {int(step): loss for step, loss in found[0].items()}

    def _heard(self, line: Any) -> dict[str, Any]:
        try:
            said = line.readline()
        except OSError as error:
            raise Gone(str(error)) from error
        words = json.loads(said or '{"fault": "its process ended"}')
        if "fault" in words:
            raise Gone(words["fault"])
        return words


class Referee:
    """Where contenders report, and are told whose turn it is."""

    def __init__(self, folder: Path, ranks: int) -> None:
        self.place, self._ranks = str(folder / "turns"), ranks
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self.place)
        self._door.listen(64)
        self._door.settimeout(ACCEPT_S)
        self._waiting: dict[tuple[str, str], dict[int, Any]] = {}

    def await_(self, contender: str, case: str, alive: Callable[[], bool]) -> Contender:
        """A contender, once all its ranks are there.

        Raises:
            Gone: It ended before, or did not come.
        """
        until = time.monotonic() + START_S
        while len(self._waiting.get((contender, case), {})) < self._ranks:
            if not alive() or time.monotonic() > until:
                raise Gone("it did not come" if alive() else "it ended before")
            self._accept()
        return Contender(self._waiting.pop((contender, case)))

    def _accept(self) -> None:
        try:
            line, _ = self._door.accept()
        except TimeoutError:
            return
        line.settimeout(STEP_S)
        file = line.makefile("rw")
        who = json.loads(file.readline())
        self._waiting.setdefault((who["contender"], who["case"]), {})[who["rank"]] = file
