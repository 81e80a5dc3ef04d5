"""What a run's settings must keep to beside their types: each fault with its value, the rule and the remedy."""

import difflib
import math
from typing import Any

from pydantic import ValidationError

import genloom
from genloom.errors import Problem
from genloom.problems import problems_of
from genloom_platform.config import RunConfig
from genloom_platform.train import profiling

OWNED_BY_THE_RUN = {
    "train_batch_size": "global_batch",
    "train_micro_batch_size_per_gpu": "accumulate",
    "gradient_accumulation_steps": "accumulate",
    "optimizer": "optimizer",
    "bf16": "precision",
    "fp16": "precision",
    "torch_autocast": "precision",
    "amp": "precision",
    "gradient_clipping": "clip",
    "scheduler": "schedule",
    "activation_checkpointing": "recompute",
}
"""Keys of DeepSpeed's JSON that the run states in a key of its own."""
PASSED_ON = {"zero_optimization", "aio", "comms_logger", "flops_profiler"}
"""Groups of DeepSpeed's JSON whose names are in none of its lists."""


def of_the_run(config: RunConfig) -> list[Problem]:
    """Faults that can be told without the generator."""
    return [
        *_optimizer_problems(config),
        *_division_problems(config),
        *_deepspeed_problems(config),
        *_other_problems(config),
    ]


def _optimizer_problems(config: RunConfig) -> list[Problem]:
    problems: list[Problem] = []
    places = {"optimizer": config.optimizer}
    places |= {f"optimizers.{name}": settings for name, settings in config.optimizers.items()}
    for where, settings in places.items():
        try:
            genloom.Optimizer.model_validate(settings)
        except ValidationError as error:
            problems += problems_of(error, genloom.Optimizer, where)
    return problems


def of_objectives(config: RunConfig, trainable: genloom.Trainable) -> list[Problem]:
    """Settings for objectives that there are not, and optimizers that torch does not have."""
    from genloom_platform.train.optimizers import check, settings_of

    objectives = {objective.name: objective for objective in trainable.objectives()}
    problems = [
        Problem(
            f"{key}.{name}", "", f"{config.generator_name} has no objective {name!r}",
            f"give one of {', '.join(objectives)}",
        )
        for key, given in (("optimizers", config.optimizers), ("schedules", config.schedules))
        for name in given
        if name not in objectives
    ]  # fmt: skip
    for objective in objectives.values():
        fault = check(settings_of(config.optimizer, config.optimizers, objective))
        if fault and fault not in problems:
            problems.append(fault)
    return problems


def _division_problems(config: RunConfig) -> list[Problem]:
    """The global batch is the same for every number of workers: it must divide among fewest and most."""
    least, most = config.scale.fewest, config.scale.most
    parts = math.lcm(least, most) * config.accumulate
    if config.global_batch % parts == 0:
        return []
    below = config.global_batch // parts * parts
    near = " or ".join(str(n) for n in (below, below + parts) if n)
    who = f"{least} and {most}" if config.scale.elastic else str(most)
    rule = f"must divide among {who} workers × {config.accumulate} micro batches"
    fitting = [n for n in range(1, 2 * most) if config.global_batch % (n * config.accumulate) == 0]
    nearest = sorted(sorted(fitting, key=lambda n: abs(n - most))[:2])
    also = f", or {' or '.join(map(str, nearest))} workers" if nearest else ""
    return [Problem("global_batch", str(config.global_batch), rule, f"give {near}{also}")]


def _deepspeed_problems(config: RunConfig) -> list[Problem]:
    return [
        Problem(
            f"deepspeed.{key}", repr(config.deepspeed[key]), "is set by the run", f"use {ours} instead"
        )
        for key, ours in OWNED_BY_THE_RUN.items()
        if key in config.deepspeed
    ] + _foreign_json(config)


def _foreign_json(config: RunConfig) -> list[Problem]:
    """What DeepSpeed itself would refuse, or pass by in silence."""
    zero: Any = config.deepspeed.get("zero_optimization", {})
    if set(config.deepspeed) <= {"zero_optimization"} and zero in [
        {},
        *({"stage": n} for n in range(4)),
    ]:
        return []  # without the seconds that DeepSpeed takes to import
    from deepspeed.runtime import constants
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    if not isinstance(zero, dict):
        return [Problem("deepspeed.zero_optimization", repr(zero), "is no group", "give {stage: 2}")]
    known = {value for value in vars(constants).values() if isinstance(value, str)} | PASSED_ON
    known -= set(OWNED_BY_THE_RUN)
    problems: list[Problem] = []
    for key in config.deepspeed:
        if key not in known and key not in OWNED_BY_THE_RUN:
            close = difflib.get_close_matches(key, sorted(known), n=1)
            remedy = f"did you mean {close[0]!r}?" if close else "leave it out"
            problems.append(Problem(f"deepspeed.{key}", "", "is no key of DeepSpeed's JSON", remedy))
    try:
        DeepSpeedZeroConfig(**zero)
    except ValidationError as error:
        problems += problems_of(error, DeepSpeedZeroConfig, "deepspeed.zero_optimization")
    for part in ("offload_optimizer", "offload_param"):
        if isinstance(zero.get(part), dict) and zero[part].get("device") == "nvme":
            where = f"deepspeed.zero_optimization.{part}.device"
            problems.append(Problem(where, "'nvme'", "cannot be saved in a checkpoint", "give cpu"))
    return problems


def _other_problems(config: RunConfig) -> list[Problem]:
    """Settings that do not go together."""
    problems: list[Problem] = []
    if config.recovery.nan == "skip" and config.accumulate > 1:
        rule = "cannot take back the micro batches before the one that fails"
        problems.append(Problem("recovery.nan", "'skip'", rule, "give rollback, or accumulate=1"))
    if config.profile and config.steps <= profiling.WARMUP_STEPS:
        rule = f"traces what comes after {profiling.WARMUP_STEPS} steps, and the run has {config.steps}"
        problems.append(Problem("profile", "true", rule, "raise steps"))
    for key, schedule in {"schedule": config.schedule, **config.schedules}.items():
        if schedule.warmup >= config.steps:
            where = key if key == "schedule" else f"schedules.{key}"
            rule = f"must be less than the run's {config.steps} steps"
            problems.append(Problem(f"{where}.warmup", str(schedule.warmup), rule, "lower it"))
    return problems
