"""What DeepSpeed is told, and what losses need of it: its JSON, whole weights, the scale of fp16 losses."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import nn

from genloom_platform.config import RunConfig
from genloom_platform.train.engine_import import deepspeed

HELD = -1
"""Stands among the modules that use a parameter, for DeepSpeed not to release it."""
DEFAULTS = {
    # Optimizers are torch's, wherever DeepSpeed keeps their state.
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "steps_per_print": 1 << 62,
}
"""What a run's own JSON may change."""
BUCKET = 500_000_000
"""Elements of gradients that DeepSpeed joins for one reduction, by default."""
AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def deepspeed_config(config: RunConfig, world: int, elements: int) -> dict[str, Any]:
    """DeepSpeed's JSON for a run: the user's own, and what the run states in its own keys.

    Args:
        config: The run.
        world: Its ranks.
        elements: Of the parameters that an engine trains, all together.
    """
    own: dict[str, Any] = {
        "train_batch_size": config.global_batch,
        "train_micro_batch_size_per_gpu": config.global_batch // (world * config.accumulate),
        "gradient_accumulation_steps": config.accumulate,
        "gradient_clipping": config.clip,
    }
    if config.precision in AUTOCAST:
        own["torch_autocast"] = {"enabled": True, "dtype": AUTOCAST[config.precision]}
    if config.zero_stage:
        # Its buffer is allocated whole, two gigabytes by default, however small the model is.
        bucket = {"reduce_bucket_size": max(1, min(elements, BUCKET))}
        own["zero_optimization"] = {**bucket, **config.deepspeed["zero_optimization"]}
    return {**DEFAULTS, **config.deepspeed, **own}


def forget_autocast() -> None:
    """Let DeepSpeed forget that an engine before this one, in the same process, trained in another precision."""
    runtime: Any = deepspeed.runtime
    autocast = runtime.torch_autocast
    autocast.TORCH_AUTOCAST_INITIALIZED, autocast.TORCH_AUTOCAST_DTYPE = False, None


@contextmanager
def whole_weights(model: nn.Module, *, enabled: bool) -> Generator[None]:
    """Keep the weights that ZeRO-3 has partitioned whole, also after a module's backward has passed.

    ZeRO-3 releases a layer's weights once its backward is done; one that is differentiated twice needs
    them again.
    """
    partitioned: list[Any] = [p for p in model.parameters() if hasattr(p, "ds_id")] if enabled else []
    if not partitioned:
        yield
        return
    absent = [p for p in partitioned if p.ds_status.name == "NOT_AVAILABLE"]
    if absent:
        absent[0].all_gather(param_list=absent)
    for parameter in partitioned:
        parameter.ds_active_sub_modules.add(HELD)
    try:
        yield
    finally:
        for parameter in partitioned:
            parameter.ds_active_sub_modules.discard(HELD)
        if absent:
            # Else they would count as present after the step has changed them, and be stale.
            absent[0].partition(param_list=absent, has_been_updated=False)


def loss_scaler(engine: Any) -> Any:
    """What scales the losses of fp16 training; None in other precisions."""
    if engine.zero_optimization_stage() == 0:
        return engine.torch_autocast_z0_gradscaler
    return engine.optimizer.torch_autocast_gradscaler


def lower_scale_on_overflow(engine: Any) -> None:
    """Lower the scale where a step was left out because its gradients overflowed.

    From ZeRO-1 on DeepSpeed leaves the step out on all ranks, and forgets to lower the scale.
    """
    scaler = loss_scaler(engine)
    if scaler is not None and getattr(engine.optimizer, "overflow", False):
        scaler.update(scaler.get_scale() * scaler.get_backoff_factor())
