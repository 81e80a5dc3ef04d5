"""Model FLOPs utilisation: a GPT of 124 million parameters in bf16, by `loop.train` in one process.

FLOPs of a token are 6 N + 12 layers width context, with N the parameters but those of the places
(Chowdhery et al., PaLM, 2022, appendix B); what is computed again counts for nothing.
"""

import os
import statistics
import tempfile
from dataclasses import dataclass

import torch
import torch.distributed as dist
from benchmarks.training_models import GPT

from genloom_platform.config import Checkpoints, RunConfig
from genloom_platform.train import flops, loop

SMALL = GPT(vocabulary=50304, context=1024, width=768, layers=12, heads=12, rows=32)
"""GPT-2 small, its vocabulary filled up to a multiple of 64."""
WARM, STEPS = 20, 60


@dataclass(frozen=True)
class Reached:
    """What a device came to."""

    device: str
    parameters: int
    tokens_per_s: float
    flops_per_token: float
    memory_bytes: int
    peak: float
    """FLOPs a second that the device could reach; 0 where unknown."""

    @property
    def mfu(self) -> float:
        """The share of the device's peak that the model's own FLOPs take."""
        return self.tokens_per_s * self.flops_per_token / self.peak if self.peak else 0.0


def flops_per_token(gpt: GPT, parameters: int) -> float:
    """Of forward and backward."""
    return 6 * (parameters - gpt.context * gpt.width) + 12 * gpt.layers * gpt.width * gpt.context


def reach(gpt: GPT, *, warm: int = WARM, steps: int = STEPS, compile: bool = True) -> Reached:
    """Train a GPT on this process's device; the median of the rates that the loop itself reports."""
    cuda = torch.cuda.is_available()
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_SIZE": "1"}
    config = RunConfig(
        generator={"name": "gpt"}, data="none", steps=steps, global_batch=gpt.rows, precision="bf16",
        compile=compile, log_every=max(1, steps // 12), checkpoint=Checkpoints(every=1 << 30),
    )  # fmt: skip
    rates: list[float] = []

    def report(engine, news):
        if news.step > warm:
            rates.append(news.rows_per_s)
        return False

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "nccl" if cuda else "gloo", init_method=f"file://{folder}/meeting", rank=0, world_size=1
        )
        try:
            engine = loop.train(
                config, gpt, None, lambda number: gpt.batches(0), report, lambda *saved: None
            )
        finally:
            dist.destroy_process_group()
    parameters = sum(parameter.numel() for parameter in engine.model.parameters())
    return Reached(
        device=torch.cuda.get_device_name() if cuda else "CPU",
        parameters=parameters,
        tokens_per_s=statistics.median(rates) * gpt.context,
        flops_per_token=flops_per_token(gpt, parameters),
        memory_bytes=torch.cuda.max_memory_allocated() if cuda else 0,
        peak=flops.peak(engine.device, config.precision),
    )
