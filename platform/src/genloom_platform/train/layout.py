"""How large a model is, and how DeepSpeed lays it out among workers: values that `memory.py` reckons with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genloom_platform.config import RunConfig

BYTES = 4
"""Of an element of fp32."""
BUCKET = 500_000_000
"""Elements that DeepSpeed reduces at once, where its JSON says nothing."""
KEPT_WHOLE = 100_000
"""ZeRO-3 leaves parameters of so many elements whole, where its JSON says nothing."""
STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class PartSize:
    """What one objective trains. Numbers of parameters' elements, unless it says bytes."""

    trained: int
    """Those that its optimizer trains."""
    frozen: int = 0
    """The others of its modules."""
    largest: int = 0
    """Of the layer that has most."""
    kept: int = 0
    """Of the parameters that are too small for ZeRO-3 to divide."""
    state_bytes: float = 0
    """What the optimizer keeps for each element: 8 for AdamW."""
    working_bytes: float = 0
    """What its step allocates for each element, for a moment."""
    types: tuple[int, ...] = (BYTES,)
    """Bytes of the types that its gradients are communicated in."""


@dataclass(frozen=True)
class ModelSize:
    """How large a model is, as far as its memory goes."""

    parts: tuple[PartSize, ...]
    elsewhere: int = 0
    """Elements of parameters that no objective has."""
    buffers_bytes: int = 0
    children: tuple[str, ...] = ()
    """The names of the modules right below it that have parameters."""
    shown: bool = False
    """Whether samples are made of it while it trains."""

    @property
    def trained(self) -> int:
        """Elements that train."""
        return sum(part.trained for part in self.parts)

    @property
    def parameters(self) -> int:
        """Elements of all parameters."""
        return self.elsewhere + sum(part.trained + part.frozen for part in self.parts)


@dataclass(frozen=True)
class Layout:
    """How a model is laid out among workers."""

    stage: int
    workers: int
    average: bool = False
    accumulate: int = 1
    offload_optimizer: bool = False
    offload_parameters: bool = False
    bucket: int = BUCKET
    """Elements of a communication buffer."""
    buckets: int = 1
    """2 where communication overlaps the backward pass at stage 1 or 2."""
    gpu: bool = False
    """A GPU's buffers are there as soon as they are allocated; a CPU's are when they are filled."""

    @property
    def offloads(self) -> bool:
        """Whether anything of it lies in the host's memory."""
        return self.offload_optimizer or self.offload_parameters

    @property
    def name(self) -> str:
        """As a person calls it."""
        return f"ZeRO {self.stage}{' offload' if self.offloads else ''}"


def layout_of(
    config: RunConfig,
    workers: int,
    *,
    gpu: bool = False,
    stage: int | None = None,
    offload: bool = True,
) -> Layout:
    """The layout that a run asks for, or the same at another stage, or without its offload."""
    zero: Mapping[str, Any] = config.deepspeed.get("zero_optimization", {})
    stage = int(zero.get("stage", 0)) if stage is None else stage
    return Layout(
        stage=stage,
        workers=workers,
        average=config.average is not None,
        accumulate=config.accumulate,
        offload_optimizer=offload and stage > 0 and _on_host(zero, "offload_optimizer"),
        offload_parameters=offload and stage == 3 and _on_host(zero, "offload_param"),
        bucket=int(zero.get("reduce_bucket_size", BUCKET)),
        buckets=2 if zero.get("overlap_comm") and stage in (1, 2) else 1,
        gpu=gpu,
    )


def _on_host(zero: Mapping[str, Any], part: str) -> bool:
    return (zero.get(part) or {}).get("device", "none") == "cpu"
