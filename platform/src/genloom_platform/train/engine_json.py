"""DeepSpeed's own JSON, checked before the start: what it would refuse, or pass by in silence."""

import difflib
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from genloom.errors import Problem
from genloom.problems import problems_of
from genloom_platform.settings import Settings

OWNED_BY_THE_RUN = {
    "train_batch_size": "global_batch",
    "train_micro_batch_size_per_gpu": "accumulate",
    "gradient_accumulation_steps": "accumulate",
    "managed_gradient_accumulation": "accumulate",
    "optimizer": "optimizer",
    "bf16": "precision",
    "bfloat16": "precision",
    "fp16": "precision",
    "torch_autocast": "precision",
    "data_types": "precision",
    "gradient_clipping": "clip",
    "scheduler": "schedule",
    "activation_checkpointing": "recompute",
    "compile": "compile",
    "checkpoint": "checkpoint",
}
"""Keys that the run states in a key of its own."""
WITHOUT_EFFECT = {
    "aio": "serves offload to nvme, which cannot be saved in a checkpoint",
    "autotuning": "serves DeepSpeed's own launcher",
    "data_efficiency": "serves DeepSpeed's own data loader",
    "dataloader_drop_last": "serves DeepSpeed's own data loader",
    "disable_allgather": "has no effect any more",
    "flops_profiler": "counts in DeepSpeed's forward, which losses pass by; --profile shows where time goes",
    "gradient_allreduce_op": "would make a loss depend on the number of workers",
    "hybrid_engine": "serves reinforcement learning",
    "pipeline": "is no data-parallel training",
    "sequence_parallel_size": "is no data-parallel training",
    "seq_parallel_communication_data_type": "is no data-parallel training",
    "tensor_parallel": "is no data-parallel training",
    "expert_parallel": "is no data-parallel training",
    "use_data_before_expert_parallelism": "is no data-parallel training",
    "weight_quantization": "serves inference",
}
"""Keys that DeepSpeed knows, and why they are refused here."""


class Values(Settings):
    """Keys that are passed on, beside the groups."""

    communication_data_type: Literal["fp32", "fp16", "bf16"] | None = None
    prescale_gradients: bool = False
    gradient_predivide_factor: float = Field(default=1, gt=0)
    zero_allow_untested_optimizer: bool = True
    zero_force_ds_cpu_optimizer: bool = False
    steps_per_print: int = Field(default=1, gt=0)
    wall_clock_breakdown: bool = False
    memory_breakdown: bool = False
    dump_state: bool = False
    disable_python_gc: bool = False
    log_level: str = "WARN"


def _groups() -> dict[str, type[BaseModel]]:
    """The groups that are passed on, as DeepSpeed types them. To import it takes seconds."""
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.monitor import config as monitors
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    return {
        "zero_optimization": DeepSpeedZeroConfig,
        "comms_logger": CommsLoggerConfig,
        "tensorboard": monitors.TensorBoardConfig,
        "wandb": monitors.WandbConfig,
        "csv_monitor": monitors.CSVConfig,
        "comet": monitors.CometConfig,
    }


GROUPS = ("zero_optimization", "comms_logger", "tensorboard", "wandb", "csv_monitor", "comet")


def problems(given: dict[str, Any]) -> list[Problem]:
    """All that is wrong with it, each at its key."""
    found = list(_foreign(given))
    values = {key: value for key, value in given.items() if key in Values.model_fields}
    found += _against(Values, values, "deepspeed")
    groups = {key: value for key, value in given.items() if key in GROUPS}
    for name, group in groups.items():
        where = f"deepspeed.{name}"
        if not isinstance(group, dict):
            found.append(Problem(where, repr(group), "is no group", f"give {where}.KEY=VALUE"))
        elif name != "zero_optimization":
            found += _against(_groups()[name], group, where)
        elif set(group) - {"stage"}:  # the stage alone, which most runs give, is seen without DeepSpeed
            known = group if _is_stage(group) else {k: v for k, v in group.items() if k != "stage"}
            found += _against(_groups()[name], known, where)
    zero = groups.get("zero_optimization")
    return found + (list(_of_zero(zero)) if isinstance(zero, dict) else [])


def _is_stage(zero: dict[str, Any]) -> bool:
    """Whether the stage that is given is one, or none is."""
    return type(zero.get("stage", 0)) is int and 0 <= zero.get("stage", 0) <= 3


def _against(model: type[BaseModel], values: dict[str, Any], where: str) -> list[Problem]:
    try:
        model(**values)
    except ValidationError as error:
        return problems_of(error, model, where)
    return []


def _foreign(given: dict[str, Any]) -> Iterable[Problem]:
    known = sorted({*GROUPS, *Values.model_fields})
    for key, value in given.items():
        where = f"deepspeed.{key}"
        if key in OWNED_BY_THE_RUN:
            remedy = f"use {OWNED_BY_THE_RUN[key]} instead"
            yield Problem(where, repr(value), "is set by the run", remedy)
        elif key in WITHOUT_EFFECT:
            yield Problem(where, repr(value), WITHOUT_EFFECT[key], "leave it out")
        elif key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            yield Problem(where, "", "is no key of DeepSpeed's JSON", remedy)


def _of_zero(zero: dict[str, Any]) -> Iterable[Problem]:
    """A stage that is none; offload that cannot be saved, or that the stage does not have."""
    if not _is_stage(zero):  # DeepSpeed counts one of them twice, and takes true for 1
        where = "deepspeed.zero_optimization.stage"
        yield Problem(where, repr(zero["stage"]), "is no stage", "give 0, 1, 2 or 3")
    for part, least in (("offload_optimizer", 1), ("offload_param", 3)):
        group = zero.get(part)
        device = group.get("device") if isinstance(group, dict) else None
        where = f"deepspeed.zero_optimization.{part}.device"
        if device == "nvme":
            yield Problem(where, "'nvme'", "cannot be saved in a checkpoint", "give cpu")
        elif (
            device == "cpu"
            and _is_stage({"stage": zero.get("stage", 0)})
            and zero.get("stage", 0) < least
        ):
            rule = f"is for ZeRO {least} and above"
            yield Problem(where, "'cpu'", rule, f"give deepspeed.zero_optimization.stage={least}")
