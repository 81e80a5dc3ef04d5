"""What every contender of the stream's benchmark shares: the decoding, the clock and the count of CPU time.

Imported in this environment and in the peers', so it takes nothing but numpy and Pillow.
"""

import io
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BATCH = 128
LOADERS = 2
"""Worker processes of each torch DataLoader."""
ANSWER = "answer: "
"""How the line begins that a measuring process hands its result over in: libraries print too."""


@dataclass(frozen=True)
class Pass:
    """One consumer's pass, by the machine's monotonic clock, which all its processes share."""

    first_at: float
    ended_at: float
    first_rows: int
    rows: int


@dataclass(frozen=True)
class Figures:
    """What a contender's pass came to."""

    first_s: float
    """From opening to the batch that the last consumer waits for."""
    rows: int
    rows_after: int
    """Without each consumer's first batch."""
    after_s: float
    """From the first batch of all to the end of the last consumer."""
    whole_s: float
    """From opening to the end."""
    cpu_s: float
    """User and system time of this process and all below it, from opening to the end."""


def decoded(data: bytes) -> np.ndarray:
    """A PNG as float32 [channels, height, width] from 0 to 1: as `genloom.Image.to_chw` has it."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    return np.ascontiguousarray(pixels.astype(np.float32).transpose(2, 0, 1) / 255)


def drained(batches: Iterable[Any]) -> Pass:
    """Take all batches, each a mapping with a `label` for every row, and drop them."""
    first_at = 0.0
    first_rows = rows = 0
    for batch in batches:
        rows += len(batch["label"])
        if not first_at:
            first_at, first_rows = time.monotonic(), rows
    return Pass(first_at, time.monotonic(), first_rows, rows)


def measured(run: Callable[[], list[Pass]]) -> Figures:
    """Open a contender's batches and drain them, in as many consumers as it has."""
    cpu_s, opened_at = cpu_seconds(), time.monotonic()
    passes = run()
    ended_at = max(each.ended_at for each in passes)
    return Figures(
        first_s=max(each.first_at for each in passes) - opened_at,
        rows=sum(each.rows for each in passes),
        rows_after=sum(each.rows - each.first_rows for each in passes),
        after_s=ended_at - min(each.first_at for each in passes),
        whole_s=ended_at - opened_at,
        cpu_s=cpu_seconds() - cpu_s,
    )


def cpu_seconds() -> float:
    """CPU time so far of this process and all below it, those that ended included.

    From /proc, for the peers' environment has no psutil; Linux only.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        parents[int(folder.name)] = int(fields[1])
        ticks[int(folder.name)] = sum(int(field) for field in fields[11:15])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


def answer(value: Any) -> None:
    """Hand a result to the benchmark."""
    result = json.dumps(asdict(value) if isinstance(value, Figures) else value)
    print(f"\n{ANSWER}{result}", flush=True)
