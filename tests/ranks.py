"""Run a function on several ranks: real processes, joined by gloo."""

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from typing import Any


def on_ranks(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` returned on each of `count` ranks."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        answers = context.SimpleQueue()
        processes = [
            context.Process(target=_rank, args=(rank, count, folder, answers, function, arguments))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        found = dict(answers.get() for _ in processes)
        for process in processes:
            process.join()
    for rank in range(count):
        if isinstance(found[rank], str):
            raise AssertionError(f"rank {rank} failed:\n{found[rank]}")
    return [found[rank][0] for rank in range(count)]


def _rank(rank, count, folder, answers, function, arguments) -> None:
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
    try:
        answers.put((rank, (function(*arguments),)))
    except BaseException:
        answers.put((rank, traceback.format_exc()))
        os._exit(1)
    dist.barrier()
    dist.destroy_process_group()
