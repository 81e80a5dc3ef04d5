"""What a run's settings must keep to beside their types: each fault with its value, the rule and the remedy."""

import math

from pydantic import ValidationError

import genloom
from genloom.errors import Problem
from genloom.problems import problems_of
from genloom_platform.config import RunConfig
from genloom_platform.train import engine_json, profiling


def of_the_run(config: RunConfig) -> list[Problem]:
    """Faults that can be told without the generator."""
    return [
        *_optimizer_problems(config),
        *_division_problems(config),
        *engine_json.problems(config.deepspeed),
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
        own = "name" in config.optimizers.get(objective.name, {})
        where = f"optimizers.{objective.name}.name" if own else "optimizer.name"
        fault = check(settings_of(config.optimizer, config.optimizers, objective), where)
        if fault and fault not in problems:
            problems.append(fault)
    return problems


def _division_problems(config: RunConfig) -> list[Problem]:
    """The global batch is the same for every number of workers: it must divide among fewest and most."""
    scale = config.scale
    parts = _parts(scale.fewest, scale.most, config.accumulate)
    if config.global_batch % parts == 0:
        return []
    below = config.global_batch // parts * parts
    remedies = [" or ".join(str(n) for n in (below, below + parts) if n)]
    remedies += _other_workers(config)
    if config.accumulate > 1:
        left = [n for n in range(1, config.accumulate) if _divides(config, scale.fewest, scale.most, n)]
        remedies += [f"accumulate={left[-1]}"] if left else []
    who = f"each of {scale.fewest} and {scale.most}" if scale.elastic else str(scale.most)
    rule = f"must divide among {who} workers × {config.accumulate} micro batches"
    return [Problem("global_batch", str(config.global_batch), rule, f"give {', or '.join(remedies)}")]


def _parts(fewest: int, most: int, accumulate: int) -> int:
    return math.lcm(fewest, most) * accumulate


def _divides(config: RunConfig, fewest: int, most: int, accumulate: int) -> bool:
    return config.global_batch % _parts(fewest, most, accumulate) == 0


def _other_workers(config: RunConfig) -> list[str]:
    """The numbers of workers nearest to those that are given among which the batch divides."""
    scale = config.scale
    pairs = [
        (fewest, most)
        for most in range(1, 2 * scale.most + 1)
        for fewest in (range(1, most) if scale.elastic else [most])
    ]
    fitting = [each for each in pairs if _divides(config, *each, config.accumulate)]
    nearest = sorted(fitting, key=lambda each: abs(each[0] - scale.fewest) + abs(each[1] - scale.most))[
        :2
    ]
    if not nearest:
        return []
    words = [f"[{fewest}, {most}]" if scale.elastic else str(most) for fewest, most in sorted(nearest)]
    return [f"scale.workers={' or '.join(words)}"]


def _other_problems(config: RunConfig) -> list[Problem]:
    """Settings that do not go together."""
    problems: list[Problem] = []
    if config.recovery.nan == "skip" and config.accumulate > 1:
        rule = "cannot take back the micro batches before the one that fails"
        problems.append(Problem("recovery.nan", "'skip'", rule, "give rollback, or accumulate=1"))
    if config.profile and config.steps <= profiling.WARMUP_STEPS:
        rule = f"traces what comes after {profiling.WARMUP_STEPS} steps, and the run has {config.steps}"
        problems.append(Problem("profile", "true", rule, "raise steps"))
    best = config.checkpoint.best
    if best and best.startswith("validation/") and not config.validation:
        rule = "is measured on held-out rows, and the run holds none out"
        remedy = "add validation.share=0.1, or give a metric of training"
        problems.append(Problem("checkpoint.best", repr(best), rule, remedy))
    for key, schedule in {"schedule": config.schedule, **config.schedules}.items():
        if schedule.warmup >= config.steps:
            where = key if key == "schedule" else f"schedules.{key}"
            rule = f"must be less than the run's {config.steps} steps"
            problems.append(Problem(f"{where}.warmup", str(schedule.warmup), rule, "lower it"))
    return problems
