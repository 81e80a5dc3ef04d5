"""A run in this process, without a group of workers: for trials of one worker, which are many and short.

Ray Train takes seconds to start a group, and as long again to end it; a trial's process starts once and
trains one trial after the other. Rows are read and prepared here too, by the same stream.
"""

import gc
import importlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from genloom_platform.data.stream import Columns, Stream, local_batches
from genloom_platform.train.inbox import Shown
from genloom_platform.train.logs import logged
from genloom_platform.train.progress import Clock, Report
from genloom_platform.train.worker import Job, Line, Rank


class Ended(Exception):
    """The run is to end at the checkpoint that it has just taken."""


def train_alone(job: Job, line: Line) -> None:
    """Train, and export the result where the job asks for it, with this process as the only rank."""
    with logged(job.store, job.run, 0, socket.gethostname()):
        _begin_process()
        try:
            Rank(job, 0, lambda stream, number: _batches(job, stream, number), line).train()
        except Ended:
            print("ended by its sweep", flush=True)
        gc.collect()  # engines hold on to themselves in circles, and the next trial needs the memory


def _batches(job: Job, stream: Stream, first: int) -> Iterator[Columns]:
    rounds = max(objective.repeats for objective in stream.trainable.objectives())
    return local_batches(stream, first, max(job.config.steps * rounds, first + 1))


def _begin_process() -> None:
    """What this process needs once: the libraries, and a group of one rank."""
    import torch.distributed as dist

    if dist.is_initialized():
        return
    importlib.import_module("genloom_platform.train.loop")
    # Libraries stay: to look through all of theirs after each trial takes half a second. Only now, for what a
    # later trial leaves behind must not stay.
    gc.collect()
    gc.freeze()
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"}
    os.environ.update(ranks)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


class Silent:
    """The line of a run that nobody watches."""

    def report(self, report: Report) -> bool:
        """Nobody hears it."""
        return False

    def saved(self, step: int, metrics: dict[str, float], commit: Callable[[], None]) -> None:
        """Training goes on."""

    def show(self, shown: Shown) -> None:
        """Nobody sees them."""

    def ended(self, step: int) -> None:
        """The function that runs it returns."""

    def beating(self, clock: Clock) -> AbstractContextManager[None]:
        """Nobody looks for signs of life."""
        return nullcontext()


def release(job: Job) -> None:
    """Export what a run has come to; it has been trained to its last step."""
    train_alone(job, Silent())
