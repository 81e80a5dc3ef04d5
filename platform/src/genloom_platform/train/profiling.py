"""A trace of a few steps by torch's profiler, which Perfetto opens (ui.perfetto.dev).

runs/<run>/profile/rank-<rank>.json.gz
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from genloom_platform.store import Store

WARMUP_STEPS = 10
"""Steps before the trace: buffers are made, kernels chosen, modules compiled."""
STEPS = 5

Item = TypeVar("Item")


def profiled(batches: Iterator[Item], rounds: int, store: Store, run: str, rank: int) -> Iterator[Item]:
    """The same batches; what is done between them is traced for some steps, and the trace is stored.

    Args:
        batches: A worker's shares.
        rounds: How many of them a step takes.
        store: Where the run is.
        run: Its name.
        rank: The worker's.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    yield from islice(batches, WARMUP_STEPS * rounds)
    with tempfile.TemporaryDirectory(prefix="genloom-profile-") as scratch:
        local = Path(scratch) / "trace.json.gz"
        profiler = profile(activities=activities, profile_memory=True, record_shapes=True)
        profiler.start()
        try:
            yield from islice(batches, STEPS * rounds)
        finally:  # the run may end first
            profiler.stop()
            profiler.export_chrome_trace(str(local))
            store.upload(local, f"runs/{run}/profile/rank-{rank}.json.gz")
    yield from batches
