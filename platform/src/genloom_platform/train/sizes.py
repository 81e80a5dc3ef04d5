"""The size of a generator's model, without its weights: what `memory.py` reckons with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

import genloom
from genloom_platform.config import RunConfig
from genloom_platform.models.start import Start, arrange
from genloom_platform.train import optimizers, recompute
from genloom_platform.train.layout import BYTES, KEPT_WHOLE, ModelSize, PartSize
from genloom_platform.train.meter import Meter
from genloom_platform.train.parts import Part, parts_of

LOWER_PRECISION = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The modules whose gradients DeepSpeed communicates in the type of autocast; as it has them, which a test holds.
To import it takes seconds."""
TRIED = 4096
"""Elements of the parameter that an optimizer is tried on."""


def size_of(
    config: RunConfig, trainable: genloom.Trainable, data: Any, start: Start | None = None
) -> ModelSize:
    """The size of a run's model.

    Args:
        config: The run.
        trainable: Its generator.
        data: The facts of its dataset.
        start: What it starts with, where it is a finetune.

    Raises:
        PluginError: Its objectives do not fit the model.
        RequestError: A pattern of `recompute` fits none of its modules.
    """
    model = without_weights(trainable, data)
    if start and config.finetune:
        arrange(model, config.finetune, start)
    recompute.activations(model, config.recompute)
    parts = parts_of(model, list(trainable.objectives()))
    inside = {id(p) for part in parts for p in part.module.parameters()}
    return ModelSize(
        parts=tuple(_part(part, config) for part in parts),
        elsewhere=sum(p.numel() for p in model.parameters() if id(p) not in inside),
        buffers_bytes=sum(buffer.nbytes for buffer in model.buffers()),
        children=tuple(name for name, child in model.named_children() if list(child.parameters())),
        shown=isinstance(trainable, genloom.Generator) and 0 < config.samples.every <= config.steps,
    )


def without_weights(trainable: genloom.Trainable, data: Any) -> nn.Module:
    """The network, on no device where its author's code can do without the weights' values."""
    try:
        with torch.device("meta"):
            return trainable.build(data)
    except Exception:  # whatever it is, it is told from the real build if it comes there too
        return trainable.build(data)


def _part(part: Part, config: RunConfig) -> PartSize:
    zero: Any = config.deepspeed.get("zero_optimization", {})
    threshold = zero.get("stage3_param_persistence_threshold", KEPT_WHOLE)
    sizes = {id(p): p.numel() for p in part.module.parameters()}
    trained = {id(p) for p in part.parameters}
    settings = optimizers.settings_of(config.optimizer, config.optimizers, part.objective)
    state_bytes, working_bytes = needs_of(settings)
    layers = [sum(p.numel() for p in m.parameters(recurse=False)) for m in part.module.modules()]
    return PartSize(
        trained=sum(sizes[each] for each in trained),
        frozen=sum(size for each, size in sizes.items() if each not in trained),
        largest=max(layers),
        kept=sum(size for size in sizes.values() if size <= threshold),
        state_bytes=state_bytes,
        working_bytes=working_bytes,
        types=_types(part.module, config.precision),
    )


def needs_of(settings: genloom.Optimizer) -> tuple[float, float]:
    """Bytes that an optimizer keeps, and that its step takes for a moment, for each element that it trains.

    They are seen, not known: it steps a small parameter.
    """
    optimizer, parameter = optimizers.tried(settings, TRIED)
    kept = [value for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor)]
    with Meter(torch.device("cpu")) as meter:
        optimizer.step()
    return sum(value.nbytes for value in kept if value.dim()) / TRIED, meter.sections[-1].most / TRIED


def _types(module: nn.Module, precision: str) -> tuple[int, ...]:
    """Bytes of the types that DeepSpeed communicates a module's gradients in."""
    if precision == "fp32":
        return (BYTES,)
    lower = [type(each) in LOWER_PRECISION for each in _with_parameters(module)]
    return tuple(size for size, there in ((2, any(lower)), (BYTES, not all(lower))) if there)


def _with_parameters(module: nn.Module) -> Sequence[nn.Module]:
    return [each for each in module.modules() if list(each.parameters(recurse=False))]
