"""Which part of a model each objective trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

import genloom
from genloom.errors import PluginError


@dataclass(frozen=True)
class Part:
    """An objective, and the modules that it trains as one module."""

    objective: genloom.Objective
    module: nn.Module
    parameters: tuple[nn.Parameter, ...]


def parts_of(model: nn.Module, objectives: Sequence[genloom.Objective]) -> list[Part]:
    """The part of each objective.

    Raises:
        PluginError: An objective names no child of the model, trains nothing, shares its name or a
            parameter with another.
    """
    if not objectives:
        raise PluginError("objectives() returned none; return at least one Objective")
    parts: list[Part] = []
    owner: dict[int, str] = {}
    for objective in objectives:
        module = module_of(model, objective)
        parameters = tuple(p for p in module.parameters() if p.requires_grad)
        if not parameters:
            raise PluginError(
                f"the objective {objective.name!r} trains no parameter; see what it names"
            )
        if any(part.objective.name == objective.name for part in parts):
            raise PluginError(
                f"two objectives are named {objective.name!r}; give each a name of its own"
            )
        for parameter in parameters:
            other = owner.setdefault(id(parameter), objective.name)
            if other != objective.name:
                raise PluginError(
                    f"the objectives {other!r} and {objective.name!r} train the same parameters; "
                    f"add their losses in one objective, or give each a part of its own"
                )
        parts.append(Part(objective, module, parameters))
    return parts


def remaining_state(model: nn.Module, parts: Sequence[Part]) -> dict[str, Any]:
    """The model's state beside the parameters of its parts: all buffers, and modules that no part has."""
    held = {id(parameter) for part in parts for parameter in part.module.parameters()}
    state = model.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in state.items() if id(value) not in held}


def module_of(model: nn.Module, objective: genloom.Objective) -> nn.Module:
    """What an objective trains: the model, a child of it, or several as one module.

    Raises:
        PluginError: The model has no such child.
    """
    if not objective.parts:
        return model
    children: list[nn.Module] = []
    for name in objective.parts:
        try:
            children.append(model.get_submodule(name))
        except AttributeError as error:
            known = ", ".join(child for child, _ in model.named_children())
            raise PluginError(
                f"the objective {objective.name!r} trains {name!r}, and the model has no such child; "
                f"it has {known}"
            ) from error
    return children[0] if len(children) == 1 else nn.ModuleList(children)
