"""Bytes of model state on a rank at each ZeRO stage, beside what the stage requires.

Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020, section 5; for
weights, gradients and Adam's two moments in fp32, four bytes each of P parameters on N ranks:

    stage 1   weights P + gradients P + moments 2 P / N
    stage 2   weights P + gradients P / N + moments 2 P / N
    stage 3   weights P / N + gradients P / N + moments 2 P / N

A master copy of the weights is not in it: in fp32, and under autocast, the weights are their own master.
"""

import gc
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from benchmarks import tables
from benchmarks.training_models import Perceptron
from ranks import on_ranks

RANKS = 2
WIDE = Perceptron(width=1024, layers=5, rows=4)
STAGES = (1, 2, 3)
WORD = 4


@dataclass(frozen=True)
class Held:
    """Bytes of a rank's live tensors before an optimizer step, when gradients are there; each storage once."""

    parameters: int
    """Of the model: their number."""
    state: int
    """Weights, gradients, moments, master copies."""
    buffers: int
    """What DeepSpeed joins gradients in for their reduction, where it keeps that."""


def theory(stage: int, parameters: int) -> float:
    """Bytes of a rank, without a master copy."""
    weights = parameters / (RANKS if stage == 3 else 1)
    gradients = parameters / (RANKS if stage >= 2 else 1)
    return WORD * (weights + gradients + 2 * parameters / RANKS)


def live_bytes() -> int:
    """Bytes of all tensors of this process."""
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor):
            for tensor in (each, each.grad if each.is_leaf else None):
                if tensor is not None and tensor.layout == torch.strided:
                    storage = tensor.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(size for place, size in storages.items() if place)


def buffers(engine: Any) -> int:
    """Bytes that DeepSpeed keeps for the reduction of gradients at stage 3."""
    (deepspeed,) = engine._engines.values()
    buckets = [each.buffer for each in deepspeed.optimizer.ipg_buckets.values()]
    return sum(each.untyped_storage().nbytes() for each in buckets if isinstance(each, torch.Tensor))


def held(stage: int) -> Held:
    """Train a few steps; runs on every rank."""
    import torch.distributed as dist

    from genloom_platform.config import Checkpoints, RunConfig
    from genloom_platform.train import loop

    before = live_bytes()
    config = RunConfig(
        generator={"name": "perceptron"}, data="none", steps=4, global_batch=WIDE.rows * RANKS, log_every=1,
        deepspeed={"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}},
        checkpoint=Checkpoints(every=1 << 30),
    )  # fmt: skip
    seen = []

    def report(engine, news):
        """After the first step: see to it that tensors are counted before the next one."""
        if news.step == 1:
            engine.before_change = lambda: seen.append((live_bytes() - before, buffers(engine)))
        return False

    batches = islice(WIDE.batches(dist.get_rank()), 4)
    engine = loop.train(config, WIDE, None, lambda number: batches, report, lambda *saved: None)
    parameters = sum(getattr(p, "ds_numel", p.numel()) for p in engine.model.parameters())
    whole, joined = seen[-1]
    return Held(parameters, whole - joined, joined)


def show() -> None:
    """Measure and print."""
    rows = []
    for stage in STAGES:
        found = on_ranks(RANKS, held, stage)
        worst = max(found, key=lambda each: each.state)
        bare = theory(stage, worst.parameters)
        whole = bare + WORD * worst.parameters / RANKS
        rows.append((
            f"ZeRO {stage}", f"{worst.state / 1e6:.1f}", f"{bare / 1e6:.1f}", f"{worst.state / bare:.2f}",
            f"{whole / 1e6:.1f}", f"{worst.state / whole:.2f}", f"{worst.buffers / 1e6:.1f}",
        ))  # fmt: skip
    tables.show(
        f"model state on a rank, {worst.parameters:,} parameters (P), fp32, Adam, {RANKS} ranks (N)",
        (
            "",
            "MB",
            "theory MB",
            "ratio",
            "with a master copy MB",
            "ratio",
            "beside it, to reduce gradients, MB",
        ),
        rows,
        "theory: weights 4 P, gradients 4 P, moments 8 P bytes, of which stage 1 shares out the moments, 2 the "
        "gradients too, 3 the weights too; a master copy, which DeepSpeed keeps also in fp32, is 4 P / N",
        "the greater of both ranks, before an optimizer step; all live tensors of the process, each storage once",
    )
