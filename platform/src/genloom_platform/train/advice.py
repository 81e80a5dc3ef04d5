"""What to change for a run to fit its workers' memory, with numbers: pure functions."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from genloom_platform.config import RunConfig
from genloom_platform.train.layout import Layout, ModelSize, layout_of
from genloom_platform.train.memory import footprint
from genloom_platform.units import size as shown

WORTH = 0.9
"""Another ZeRO stage is worth a word where it leaves so much of the memory, or less."""

SMALL_BUCKET = 50_000_000
"""Elements of a communication buffer that is small, and hardly slower."""


def to_lower_memory(config: RunConfig, size: ModelSize | None, workers: int) -> str:
    """What to lower, as one sentence.

    Args:
        config: The run that ran out of memory, or would.
        size: Its model's; None where that is not known.
        workers: How many trained it.
    """
    share = config.global_batch // workers
    at_once = share // config.accumulate
    rows = f"each worker's share is {_rows(share)}"
    rows += f", {at_once} at once" if config.accumulate > 1 else ""
    ways = [
        *_smaller_batches(config, at_once, share),
        *(_other_layouts(config, size, workers) if size else []),
        *_fewer_activations(config, size),
        *_more_workers(config, workers),
    ]
    if not ways:
        return f"{rows}; give workers with more memory, or a smaller model"
    listed = ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])}, or {ways[-1]}"
    return f"{rows}; give {listed}"


def _rows(count: int) -> str:
    return f"{count} row{'s' if count > 1 else ''}"


def _smaller_batches(config: RunConfig, at_once: int, share: int) -> list[str]:
    """More micro batches: at least twice as many, and a number into which all shares can be split."""
    most = math.lcm(config.scale.fewest, config.scale.most)
    if config.recovery.nan == "skip":
        return []  # which does not go with micro batches
    for count in range(2 * config.accumulate, share + 1):
        if config.global_batch % (most * count) == 0 and share // count < at_once:
            return [f"accumulate={count} ({_rows(share // count)} at once)"]
    return []


def _other_layouts(config: RunConfig, size: ModelSize, workers: int) -> list[str]:
    """A higher ZeRO stage, smaller communication buffers, or the optimizer in the host's memory."""
    gpu = config.scale.gpus_per_worker > 0
    now = layout_of(config, workers, gpu=gpu)
    before = _states(size, now)
    ways: list[str] = []
    least = before
    for stage in range(max(1, now.stage), 4):
        other = layout_of(config, workers, gpu=gpu, stage=stage)
        small = replace(other, bucket=min(other.bucket, SMALL_BUCKET))
        settings = {"stage": stage} if stage != now.stage else {}
        if _states(size, small) < WORTH * _states(size, other):
            other = small
            settings["reduce_bucket_size"] = small.bucket
        needed = _states(size, other)
        if settings and needed < WORTH * least:
            ways.append(f"{_as_words(settings)} (model states {_change(before, needed)} a worker)")
            least = needed
    ways = [ways[0], ways[-1]] if len(ways) > 2 else ways
    if gpu and not now.offload_optimizer:
        moved = {"stage": max(1, now.stage), "offload_optimizer": {"device": "cpu"}}
        needed = _states(size, layout_of(_with(config, moved), workers, gpu=gpu))
        if needed < WORTH * before:
            moved = moved if now.stage == 0 else {"offload_optimizer": {"device": "cpu"}}
            ways.append(f"{_as_words(moved)} (model states {_change(before, needed)} on the GPU)")
    return ways


def _change(before: float, after: float) -> str:
    return f"{shown(before)} → {shown(after)}"


def _as_words(settings: Mapping[str, Any]) -> str:
    """Settings of ZeRO, as they are written on the command line."""
    words: list[str] = []
    for key, value in settings.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for last, each in inner:
            words.append(f"deepspeed.zero_optimization.{key}{'.' if last else ''}{last}={each}")
    return " ".join(words)


def _with(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    zero = {**config.deepspeed.get("zero_optimization", {}), **settings}
    return config.model_copy(update={"deepspeed": {**config.deepspeed, "zero_optimization": zero}})


def _states(size: ModelSize, layout: Layout) -> float:
    found = footprint(size, layout)
    return found.device.total if layout.gpu else found.both.total


def _fewer_activations(config: RunConfig, size: ModelSize | None) -> list[str]:
    """To keep fewer activations, or smaller ones."""
    ways: list[str] = []
    if not config.recompute:
        children = size.children if size else ()
        names = ",".join(children[:4]) if children else "NAMES OF MODULES"
        ways.append(f"recompute=[{names}] (their activations are computed again, not kept)")
    if config.precision == "fp32" and config.scale.gpus_per_worker > 0:
        ways.append("precision=bf16 (most activations take half)")
    return ways


def _more_workers(config: RunConfig, workers: int) -> list[str]:
    """Twice as many, where the batch divides."""
    if config.scale.elastic or config.global_batch % (2 * workers * config.accumulate):
        return []
    return [f"scale.workers={2 * workers} ({_rows(config.global_batch // (2 * workers))} each)"]
