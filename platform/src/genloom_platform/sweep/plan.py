"""A sweep's plan: what its trials will be. `checks.py` says what is wrong with it, before anything starts."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from genloom.errors import InvalidConfig, Problem
from genloom.problems import problems_of
from genloom_platform import config as configs
from genloom_platform.config import RunConfig
from genloom_platform.settings import read_yaml
from genloom_platform.store import Store
from genloom_platform.sweep import spaces
from genloom_platform.sweep.settings import SCHEDULERS, NoScheduler, Pbt, SweepConfig
from genloom_platform.sweep.spaces import Params

LOOKS = 20
"""Looks at a trial that trains in full, where the sweep does not say."""
STRUCTURAL = (
    "name",
    "data",
    "global_batch",
    "accumulate",
    "precision",
    "deepspeed",
    "seed",
    "average",
    "compile",
)
"""Parts of keys whose change would not fit a checkpoint, or the place in the data that it stands for."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will do."""

    store: Store = field(compare=False)
    config: SweepConfig
    base: RunConfig
    """A trial's run, with the fields of the space as the sweep's `run` leaves them."""

    @property
    def steps(self) -> int:
        """Steps of a trial that trains in full."""
        return self.base.steps

    @property
    def every(self) -> int:
        """Steps between two looks at a trial."""
        return min(self.steps, self.config.every or -(-self.steps // LOOKS))

    @cached_property
    def grid(self) -> list[Params]:
        """Every point, where the sweep is a grid."""
        return list(spaces.grid(self.config.space))

    @property
    def trials(self) -> int:
        """How many trials there are."""
        if self.config.search == "grid":
            return min(len(self.grid), self.config.trials or len(self.grid))
        assert self.config.trials
        return self.config.trials

    def params(self, number: int) -> Params:
        """The values of a trial that is not learnt from others, by its number."""
        if self.config.search == "grid":
            return self.grid[number]
        return spaces.drawn(self.config.space, spaces.Chance(self.config.seed, number))

    def run(self, params: Params) -> RunConfig:
        """The run that some values make.

        Raises:
            InvalidConfig: They do not go together.
        """
        keep = (
            2 if isinstance(self.config.scheduler, Pbt) else 1
        )  # another may yet go on from the one before
        saved = {"every": self.every, "keep": keep}
        found = configs.resolve(with_params(self.config.run, params), self.store)
        changed = {
            "checkpoint": configs.Checkpoints.model_validate(saved),
            "samples": configs.Samples.model_validate({"every": 0}),  # hundreds of trials show none
        }
        return found.model_copy(update=changed)

    def perturbed(self) -> list[str]:
        """The keys that population based training changes."""
        scheduler, space = self.config.scheduler, self.config.space
        if isinstance(scheduler, Pbt) and scheduler.perturb is not None:
            return list(scheduler.perturb)
        paths = {key: spaces.path(key) for key in space}
        return [
            key
            for key, path in paths.items()
            if path[0] != "generator" and not set(path) & set(STRUCTURAL)
        ]


def read(source: str, overrides: Iterable[str]) -> dict[str, Any]:
    """A sweep's raw values: a YAML file's, with `key.path=value` overrides applied.

    A first part that is no key of the sweep is the run's: `steps=100` is `run.steps=100`.

    Raises:
        RequestError: The file is missing or is no YAML mapping, or an override is no `key=value`.
    """
    values = read_yaml(source)
    for key, value in configs.settings(overrides):
        first, _, rest = key.partition(".")
        if first == "space":
            configs.nest(values, ["space", rest], value)
        elif first in SweepConfig.model_fields:
            configs.nest(values, key.split("."), value)
        else:
            configs.nest(values, ["run", *spaces.path(key)], value)
    return values


def resolve(values: Mapping[str, Any], store: Store) -> Plan:
    """A checked plan.

    Raises:
        InvalidConfig: All that is wrong with the sweep, its run and its space.
    """
    config, problems = _typed(values)
    if config is None:
        raise InvalidConfig("the sweep", problems)
    from genloom_platform.sweep import checks

    base, faults = checks.of_space(config, store)
    problems += [*checks.of_settings(config), *checks.of_conditions(config), *faults]
    if problems or base is None:
        raise InvalidConfig("the sweep", problems)
    plan = Plan(store, config, base)
    problems = checks.of_trials(plan)
    if problems:
        raise InvalidConfig("the sweep", problems)
    return plan


def _typed(values: Mapping[str, Any]) -> tuple[SweepConfig | None, list[Problem]]:
    problems: list[Problem] = []
    given = dict(values)
    scheduler: Any = given.get("scheduler", {"name": "none"})
    scheduler = {"name": scheduler} if isinstance(scheduler, str) else scheduler
    name = scheduler.get("name") if isinstance(scheduler, dict) else None
    given["scheduler"] = NoScheduler()
    if name not in SCHEDULERS:
        rule = "is no scheduler"
        problems.append(Problem("scheduler", repr(name), rule, f"give one of {', '.join(SCHEDULERS)}"))
    else:
        try:
            given["scheduler"] = SCHEDULERS[name].model_validate(scheduler)
        except ValidationError as error:
            problems += problems_of(error, SCHEDULERS[name], "scheduler")
    try:
        return SweepConfig.model_validate(given), problems
    except ValidationError as error:
        return None, problems + problems_of(error, SweepConfig)


def with_params(run: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """A run's raw values with those of a trial."""
    values = copy.deepcopy(dict(run))
    for key, value in params.items():
        configs.nest(values, spaces.path(key), value)
    return values
