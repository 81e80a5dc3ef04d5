"""The memory of a worker before it runs, by ZeRO stage (Rajbhandari et al., ZeRO, 2020). Pure functions.

DeepSpeed has estimators of its own (`estimate_zero2_model_states_mem_needs`, and one for ZeRO-3). They are for
fp16 or bf16 weights under Adam: 2 bytes an element, and 18 divided among the workers. Here weights are fp32 and
computed on under autocast, an optimizer keeps as many tensors as it does, a model may have several of them, and
there may be an average; so of their terms only the division is right. They also leave out what is needed for a
moment only, which with few workers is as much as the states themselves.
"""

from dataclasses import dataclass, fields, replace

from genloom_platform.train.layout import BUCKET, BYTES, Layout, ModelSize, PartSize


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
    aside = _beside_steps(size, layout) - activations
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
    needed = max(backward, update - activations, aside)
    device = replace(states, activations=activations, working=states.working + needed)
    return Footprint(device, host, needed + (device.gradients if layout.stage < 3 else 0))


def _states(size: ModelSize, layout: Layout) -> Memory:
    """What is there for the whole of a step, all of it on the device."""
    workers = layout.workers
    parts = sum(part.trained + part.frozen for part in size.parts)
    if layout.stage == 3:
        kept = sum(part.kept for part in size.parts) if workers > 1 else 0
        parts = parts / workers + kept
    greatest = max(part.trained for part in size.parts)
    divided = size.trained / workers
    state_bytes = sum(part.state_bytes * part.trained for part in size.parts)
    return Memory(
        parameters=size.buffers_bytes + BYTES * (size.elsewhere + parts),
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
        return BYTES * (2 * part.largest + (gathered if layout.workers > 1 else 0))
    sent = {1: divided, 2: 2 * part.largest}[layout.stage]
    if layout.offload_optimizer:
        sent += part.largest + (part.trained if layout.stage == 1 else 0)
    elif layout.stage == 2 and layout.accumulate > 1:
        sent += divided  # what the micro batches before have come to
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


def _beside_steps(size: ModelSize, layout: Layout) -> float:
    """What ZeRO-3 needs between steps: whole weights for an export, and a copy of them to make samples with."""
    if layout.stage < 3:
        return 0
    whole = BYTES * (size.parameters - size.elsewhere)
    return whole * ((layout.workers > 1) + size.shown)


def _on_its_way(size: ModelSize, layout: Layout) -> float:
    """What goes between the device and the host's memory, on the host."""
    buffers = sum(part.largest for part in size.parts) if layout.stage < 3 else 0
    copies = 1 + (layout.accumulate > 1 and layout.stage < 3)
    return BYTES * (copies * size.trained / layout.workers + buffers)


def _bucket(part: PartSize, layout: Layout) -> float:
    """A communication buffer for each type; fp32 for all at stages 1 and 2.

    One that a run sets itself is allocated whole; on a CPU what is not written to takes nothing.
    """
    own = layout.gpu and layout.bucket != BUCKET
    elements = layout.bucket if own else min(layout.bucket, part.trained)
    types = part.types if layout.stage == 3 else [BYTES for _ in part.types]
    return elements * layout.buckets * sum(types)


def _copied(size: ModelSize, layout: Layout) -> float:
    """A worker's share of a checkpoint."""
    states = sum(part.state_bytes * part.trained for part in size.parts)
    weights = BYTES * sum(part.trained + part.frozen for part in size.parts)
    average = BYTES * size.trained if layout.average else 0
    return (weights + states + average) / layout.workers
