"""How long training stands still for a checkpoint: ours, and what blocks, of the same state in the same run."""

import os
import statistics
import time
from itertools import islice, pairwise
from pathlib import Path

import torch
from benchmarks import tables
from benchmarks.training_models import Perceptron
from ranks import on_ranks

RANKS = 2
EVERY = 4
SAVES = int(os.environ.get("GENLOOM_BENCH_SAVES", "5"))
"""By each way."""
WIDE = Perceptron(width=2048, layers=5, rows=8)
WAYS = ("ours", "torch.save", "DeepSpeed")


def saved(folder: str) -> dict[str, list[tuple[float, float, int]]]:
    """Train and save, by each way in turn; runs on every rank.

    Returns:
        Of each save: seconds of the call, and those that the next update waited for its copy; seconds that the
        steps until the next save took longer than steps do; bytes of this rank.
    """
    import torch.distributed as dist

    from genloom_platform.config import Checkpoints, RunConfig
    from genloom_platform.store import Store
    from genloom_platform.train import loop
    from genloom_platform.train.saver import Saver

    store = Store(Path(folder).as_uri())
    rank = dist.get_rank()
    steps = EVERY * (SAVES * len(WAYS) + 1) + 1
    config = RunConfig(
        generator={"name": "perceptron"}, data="none", steps=steps, global_batch=WIDE.rows * RANKS,
        log_every=1 << 30, deepspeed={"zero_optimization": {"stage": 1}},
        checkpoint=Checkpoints(every=EVERY, keep=1),
    )  # fmt: skip
    savers, begun, waited, calls = [], [], [0.0], {way: [] for way in WAYS}

    def batches(number):
        for batch in islice(WIDE.batches(rank), steps):
            begun.append(time.perf_counter())
            yield batch

    def save(engine, step, metrics):
        number = step // EVERY - 1
        if number >= SAVES * len(WAYS):
            return
        way = WAYS[number % len(WAYS)]
        state = {name: tensor for part in engine.state().values() for name, (tensor, _) in part.items()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        dist.barrier()
        at = time.perf_counter()
        waited.append(0.0)
        if way == "ours":
            savers[0].save(step, metrics)
        elif way == "torch.save":
            torch.save(state, f"{folder}/{rank}.pt")
        else:
            (deepspeed,) = engine._engines.values()
            deepspeed.save_checkpoint(f"{folder}/deepspeed", tag="one")
        calls[way].append((step, time.perf_counter() - at, size, len(waited) - 1))

    def resume(engine):
        savers.append(Saver(store, "bench", engine))
        settle = engine.before_change

        def timed():
            at = time.perf_counter()
            settle()
            waited[-1] += time.perf_counter() - at

        engine.before_change = timed
        return 0

    loop.train(config, WIDE, None, batches, lambda engine, news: False, save, resume)
    savers[0].wait()
    took = [b - a for a, b in pairwise(begun)]
    after = {way: [took[step : step + EVERY - 1] for step, *_ in each] for way, each in calls.items()}
    usual = statistics.median(seconds for steps in after["torch.save"] for seconds in steps[1:])
    return {
        way: [
            (seconds + waited[turn], sum(steps) - usual * len(steps), size)
            for (_, seconds, size, turn), steps in zip(each, after[way], strict=True)
        ]
        for way, each in calls.items()
    }


def show(folder: Path) -> None:
    """Measure and print."""
    found = on_ranks(RANKS, saved, str(folder))
    rows, later = [], {}
    for way in WAYS:
        pairs = list(zip(*(rank[way] for rank in found), strict=True))
        still = [max(each[0] for each in pair) for pair in pairs]
        after = [max(each[1] for each in pair) for pair in pairs]
        later[way] = [statistics.median(still[1:]), still[0], statistics.median(after[1:])]
        rows.append((way, *(f"{1e3 * value:,.1f}" for value in later[way])))
    size = sum(rank["ours"][0][2] for rank in found)
    blocking = later["torch.save"]
    rows = [
        (*row, f"{later[way][0] / blocking[0]:.3f}", f"{later[way][1] / blocking[1]:.3f}")
        for way, row in zip(WAYS, rows, strict=True)
    ]
    tables.show(
        f"a checkpoint of {size / 1e6:.0f} MB, {RANKS} ranks, ZeRO 1, each rank its own share",
        ("", "training stands still, ms", "the first time, ms", "steps after it take longer, ms",
         "still / torch.save", "the first time / torch.save"),
        rows,
        f"medians of {SAVES - 1} saves by each way, in turns, after the first; the slower rank; to this "
        "machine's disk",
    )  # fmt: skip
