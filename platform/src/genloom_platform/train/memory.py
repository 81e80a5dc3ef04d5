"""The memory of a worker before it runs, by ZeRO stage (Rajbhandari et al., ZeRO, 2020). Pure functions.

DeepSpeed has estimators of its own (`estimate_zero2_model_states_mem_needs`, and one for ZeRO-3). They are for
fp16 or bf16 weights under Adam: 2 bytes an element, and 18 divided among the workers. Here weights are fp32 and
computed on under autocast, an optimizer keeps as many tensors as it does, a model may have several of them, and
there may be an average; so of their terms only the division is right. They also leave out what is needed for a
moment only, which with few workers is as much as the states themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
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
        words = [f"ZeRO {self.stage}"]
        words += ["optimizer on host"] if self.offload_optimizer else []
        words += ["weights on host"] if self.offload_parameters else []
        return ", ".join(words)


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


@dataclass(frozen=True)
class Memory:
    """Bytes, by what they hold."""

    parameters: float = 0
    """Weights as the model has them, and its buffers."""
    gradients: float = 0
    master: float = 0
    """The weights that an optimizer steps, from ZeRO-1 on; DeepSpeed keeps them also where all is fp32."""
    optimizer: float = 0
    average: float = 0
    activations: float = 0
    working: float = 0
    """What is needed for a moment: communication buffers, gathered weights, what an optimizer computes with."""
    checkpoint: float = 0
    """The copy that is saved while training goes on."""

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        )


@dataclass(frozen=True)
class Footprint:
    """What one worker needs at most."""

    device: Memory
    """Of the GPU, or of a worker without one."""
    host: Memory
    """Of its node, where it has a GPU; to be added to the other where it has none."""
    passing: float
    """What of the device's comes and goes with a step, activations aside."""

    @property
    def both(self) -> Memory:
        """For a worker without a GPU."""
        return self.device + self.host

    @property
    def at_rest(self) -> float:
        """What of both is there between two steps, when nothing is being saved."""
        return self.both.total - self.both.checkpoint - self.device.activations - self.passing


def footprint(size: ModelSize, layout: Layout, activations: float = 0) -> Footprint:
    """What a worker needs at the moment when it needs most.

    Args:
        size: The model.
        layout: Where it lies.
        activations: Bytes that the greatest loss keeps for its backward pass.
    """
    states = _states(size, layout)
    backward = max(_in_backward(part, size, layout) for part in size.parts)
    update = max(_in_update(part, layout) for part in size.parts)
    gathers = layout.stage == 3 and layout.workers > 1
    # A model is exported from whole weights, when there are no activations any more.
    export = BYTES * (size.parameters - size.elsewhere) - activations if gathers else 0
    host = Memory(checkpoint=_copied(size, layout))
    if layout.offload_optimizer:
        moved = Memory(master=states.master, optimizer=states.optimizer, gradients=BYTES * size.trained)
        host += replace(
            moved, gradients=moved.gradients / layout.workers, working=_on_its_way(size, layout)
        )
        states = replace(states, master=0, optimizer=0, gradients=0)
        if layout.gpu:
            host += Memory(working=update)
            update = 0
    if layout.offload_parameters:
        host += Memory(parameters=states.parameters)
        states = replace(states, parameters=0)
    needed = max(backward, update - activations, export)
    device = replace(states, activations=activations, working=states.working + needed)
    return Footprint(device, host, needed + (device.gradients if layout.stage < 3 else 0))


def _states(size: ModelSize, layout: Layout) -> Memory:
    """What is there for the whole of a step, all of it on the device."""
    workers = layout.workers
    parts = sum(part.trained + part.frozen for part in size.parts)
    greatest = max(part.trained for part in size.parts)
    divided = size.trained / workers
    state_bytes = sum(part.state_bytes * part.trained for part in size.parts)
    return Memory(
        parameters=size.buffers_bytes
        + BYTES * (size.elsewhere + (parts / workers if layout.stage == 3 else parts)),
        # ZeRO-3 has a buffer for those of each objective; at other stages they come and go.
        gradients=BYTES * (greatest, greatest, greatest / workers, divided)[layout.stage],
        master=BYTES * divided if layout.stage else 0,
        optimizer=state_bytes / workers if layout.stage else state_bytes,
        average=BYTES * (divided if layout.stage == 3 else size.trained) if layout.average else 0,
        working=sum(_bucket(part, layout) for part in size.parts) if layout.stage == 3 else 0,
    )


def _in_backward(part: PartSize, size: ModelSize, layout: Layout) -> float:
    """What an objective's backward pass needs beside states and activations."""
    divided = part.trained / layout.workers
    if layout.stage == 0:
        return BYTES * min(part.trained, BUCKET)  # a flat copy of the gradients, to be all-reduced
    if layout.stage == 3:
        # Of a layer its weights and those of the next, gathered, and its gradients. Where objectives take turns,
        # DeepSpeed leaves gathered what another one's loss was computed with.
        gathered = size.parameters - size.elsewhere if len(size.parts) > 1 else part.largest
        return BYTES * (2 * part.largest + (max(gathered, part.kept) if layout.workers > 1 else 0))
    sent = {1: divided, 2: 2 * part.largest}[layout.stage]
    if layout.offload_optimizer:
        sent += part.largest + (part.trained if layout.stage == 1 else 0)
    return BYTES * sent + _bucket(part, layout)


def _in_update(part: PartSize, layout: Layout) -> float:
    """What an optimizer's step needs beside states."""
    if layout.stage == 0:
        return part.working_bytes * part.largest
    divided = part.trained / layout.workers
    if layout.offload_optimizer:
        return part.working_bytes * divided
    if layout.stage == 3:
        return (BYTES + part.working_bytes) * divided
    # The gradients are laid end to end in a copy, and then freed.
    freed = part.trained if layout.stage == 1 else divided
    return max(BYTES * divided, (BYTES + part.working_bytes) * divided - BYTES * freed)


def _on_its_way(size: ModelSize, layout: Layout) -> float:
    """What goes between the device and the host's memory, on the host."""
    buffers = sum(part.largest for part in size.parts) if layout.stage < 3 else 0
    copies = 1 + (layout.accumulate > 1 and layout.stage < 3)
    return BYTES * (copies * size.trained / layout.workers + buffers)


def _bucket(part: PartSize, layout: Layout) -> float:
    """A communication buffer for each type; fp32 for all at stages 1 and 2."""
    elements = layout.bucket if layout.gpu else min(layout.bucket, part.trained)
    types = part.types if layout.stage == 3 else [BYTES for _ in part.types]
    return elements * layout.buckets * sum(types)


def _copied(size: ModelSize, layout: Layout) -> float:
    """A worker's share of a checkpoint."""
    states = sum(part.state_bytes * part.trained for part in size.parts)
    weights = BYTES * sum(part.trained + part.frozen for part in size.parts)
    average = BYTES * size.trained if layout.average else 0
    return (weights + states + average) / layout.workers
