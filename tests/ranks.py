"""Run a function on several ranks: real processes, joined by gloo, kept for the next call.

Starting one takes seconds (torch and DeepSpeed are imported), so those of a test session are shared.
"""

import atexit
import multiprocessing
import os
import queue
import shutil
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

_groups: dict[int, "_Group"] = {}


def on_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returned on each of `count` ranks.

    Raises:
        AssertionError: It failed on one; the traceback is its message.
    """
    group = _groups.get(count) or _groups.setdefault(count, _Group(count))
    try:
        return group.call(function, arguments)
    except BaseException:
        _groups.pop(count).kill()
        raise


class _Group:
    """Processes that wait for functions."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.mkdtemp(prefix="genloom-ranks-")
        self._answers = context.Queue()
        self._work = [context.Queue() for _ in range(count)]
        self._processes = [
            context.Process(
                target=_rank,
                args=(rank, count, self._folder, self._work[rank], self._answers),
                daemon=True,
            )
            for rank in range(count)
        ]
        for process in self._processes:
            process.start()
        atexit.register(self.kill)

    def call(self, function, arguments) -> list[Any]:
        for work in self._work:
            work.put((function, arguments))
        found: dict[int, Any] = {}
        while len(found) < len(self._work):
            try:
                rank, failed, answer = self._answers.get(timeout=1)
            except queue.Empty:
                died = [process.pid for process in self._processes if not process.is_alive()]
                assert not died, f"ranks died: {died}; can they import {function}?"
                continue
            assert not failed, f"rank {rank} failed:\n{answer}"
            found[rank] = answer
        return [found[rank] for rank in range(len(self._work))]

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _rank(rank, count, folder, work, answers) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_SIZE=str(count),
        DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1",
    )  # fmt: skip
    # The engines' noise would drown what a test says.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    while True:
        function, arguments = work.get()
        try:
            answers.put((rank, False, function(*arguments)))
        except BaseException:
            answers.put((rank, True, traceback.format_exc()))
        dist.barrier()
