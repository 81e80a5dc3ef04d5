"""What is wrong with a sweep, all at once: against the schema of the run and of the generator, before it starts.

The space is checked by probes: values that stand for all of a dimension, put into the run, one key at a time.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from genloom.errors import InvalidConfig, Problem, RequestError
from genloom_platform import config as configs
from genloom_platform.config import RunConfig
from genloom_platform.store import Store
from genloom_platform.sweep import spaces
from genloom_platform.sweep.plan import Plan, with_params
from genloom_platform.sweep.settings import Pbt, SweepConfig
from genloom_platform.sweep.spaces import Params

SAME_FOR_ALL = (
    "steps",
    "model",
    "scale",
    "checkpoint",
    "recovery",
    "validation",
    "evaluate",
    "samples",
)
"""Keys of the run that trials are compared under."""


def of_settings(config: SweepConfig) -> list[Problem]:
    """Settings that do not go together."""
    problems: list[Problem] = []

    def add(where: str, value: object, rule: str, remedy: str) -> None:
        problems.append(Problem(where, repr(value), rule, remedy))

    kind = config.scheduler.name
    if len(config.modes) != len(config.metrics):
        add(
            "mode",
            config.mode,
            f"must be one for each of {len(config.metrics)} metrics",
            "give as many",
        )
    if len(config.metrics) > 1 and kind != "none":
        add("scheduler", kind, "compares trials by one metric", "give one metric, or scheduler: none")
    if config.search == "optuna" and kind in ("pbt", "hyperband"):
        add(
            "search",
            "optuna",
            f"cannot learn from trials that {kind} pauses",
            "give random, or scheduler: asha",
        )
    if config.trials is None and config.search != "grid":
        add("trials", None, "is required and missing", "add trials=20")
    if config.trials and config.best > config.trials:
        add("best", config.best, f"is more than the {config.trials} trials", "lower it")
    if isinstance(config.scheduler, Pbt) and config.trials and config.trials < 2:
        add("trials", config.trials, "is no population", "give 4 or more")
    if config.search == "grid":
        for key, dimension in config.space.items():
            if dimension.choice is None:
                rule = "is a range, and a grid has points"
                remedy = "give choice, or search: random"
                problems.append(Problem(f"space.{key}", "", rule, remedy))
    for metric in config.metrics:
        if metric.startswith("validation/") and not config.run.get("validation"):
            add("metric", metric, "is measured on held-out rows, and the run holds none out",
                "add validation: {share: 0.1} to the run")  # fmt: skip
    return problems


def of_conditions(config: SweepConfig) -> list[Problem]:
    """Conditions on what the space does not have, keys that are named twice."""
    problems: list[Problem] = []
    space = config.space
    for key, dimension in space.items():
        for other, value in dimension.when.items():
            where = f"space.{key}.when.{other}"
            if other not in space:
                remedy = _nearest(other, space)
                problems.append(Problem(where, "", "names no key of the space", remedy))
                continue
            choice = space[other].choice
            strange = [v for v in spaces.allowed(value) if choice is not None and v not in choice]
            if choice is None or strange:
                rule = f"is no value that {other} is given"
                known = ", ".join(map(repr, choice)) if choice else "one of a choice"
                problems.append(Problem(where, repr(value), rule, f"give {known}"))
    lost = [] if problems else sorted(set(space) - set(spaces.ordered(space)))
    if lost:
        rule = "depend on each other in a circle"
        problems.append(
            Problem("space", "", f"the conditions of {', '.join(lost)} {rule}", "leave one out")
        )
    seen: dict[str, str] = {}
    for key in space:
        full = ".".join(spaces.path(key))
        if full in seen:
            problems.append(
                Problem(f"space.{key}", "", f"is the same key as {seen[full]}", "leave one out")
            )
        seen[full] = key
    scheduler = config.scheduler
    if isinstance(scheduler, Pbt):
        for key in scheduler.perturb or ():
            if key not in space:
                rule = "names no key of the space"
                problems.append(Problem("scheduler.perturb", repr(key), rule, _nearest(key, space)))
    return problems


def of_space(config: SweepConfig, store: Store) -> tuple[RunConfig | None, list[Problem]]:
    """The run without the space's values, as far as it is sound, and what is wrong with either."""
    keys = {key: ".".join(spaces.path(key)) for key in config.space}
    base, faults = _faults(config.run, {}, store)
    # What the run leaves to the space is no fault of the run.
    problems = [
        Problem(f"run.{p.where}", p.value, p.rule, p.remedy)
        for p in faults
        if not any(_within(p, full) for full in keys.values())
    ]
    known = {str(fault) for fault in faults}
    whole: RunConfig | None = base
    for key in spaces.ordered(config.space):  # without those whose conditions cannot be met
        full = keys[key]
        if full.split(".")[0] in SAME_FOR_ALL:
            rule = "is what trials are compared under"
            problems.append(Problem(f"space.{key}", "", rule, f"set it once, as run.{full}"))
            continue
        others = [other for name, other in keys.items() if name != key]
        for value in spaces.probes(config.space[key]):
            params = spaces.enabling(config.space, key) | {key: value}
            found, faults = _faults(config.run, params, store)
            whole = whole or found
            own = [p for p in faults if _is_new(p, full, known, others)]
            if own:
                problems += [_of_key(p, key, full, value) for p in own]
                break
    if whole is None and not problems:  # several keys of the space must come together to make a run
        whole, faults = _faults(config.run, spaces.drawn(config.space, spaces.Chance(0, 0)), store)
        problems += [Problem(f"run.{p.where}", p.value, p.rule, p.remedy) for p in faults]
    return whole, problems


def _is_new(problem: Problem, full: str, known: set[str], others: list[str]) -> bool:
    """Whether a fault comes from a key's value: it names the key, or is none of the run's without it."""
    if _within(problem, full):
        return True
    return str(problem) not in known and not any(_within(problem, other) for other in others)


def _within(problem: Problem, full: str) -> bool:
    return f"{problem.where}.".startswith(f"{full}.")


def _of_key(problem: Problem, key: str, full: str, value: object) -> Problem:
    direct = problem.where == full
    rule = problem.rule if direct else f"{problem.where}: {problem.rule}"
    return Problem(f"space.{key}", repr(value), rule, problem.remedy)


def _faults(
    run: Mapping[str, Any], params: Params, store: Store
) -> tuple[RunConfig | None, list[Problem]]:
    try:
        return configs.resolve(with_params(run, params), store), []
    except InvalidConfig as error:
        return None, list(error.problems)
    except RequestError as error:
        return None, [configs.as_problem(error)]


def of_trials(plan: Plan) -> list[Problem]:
    """Faults that show when the plan is whole: rungs beyond the run, nothing to perturb, points that fail."""
    problems: list[Problem] = []
    scheduler = plan.config.scheduler
    grace = getattr(scheduler, "grace", None)
    if grace and grace > plan.steps:
        rule = f"is beyond the run's {plan.steps} steps"
        problems.append(Problem("scheduler.grace", str(grace), rule, "lower it"))
    if isinstance(scheduler, Pbt) and not plan.perturbed():
        rule = "nothing of the space can be changed while a trial trains"
        problems.append(
            Problem("scheduler.perturb", "", rule, "add optimizer.lr to the space, or name keys here")
        )
    if plan.config.search == "grid" and plan.config.best > plan.trials:
        rule = f"is more than the grid's {plan.trials} points"
        problems.append(Problem("best", str(plan.config.best), rule, "lower it"))
    return problems


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"
