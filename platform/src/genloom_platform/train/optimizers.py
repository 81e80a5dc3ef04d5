"""Optimizers: the settings that an objective trains with, and the optimizer of `torch.optim` that they name."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

import genloom
from genloom.errors import Problem
from genloom_platform.train.patterns import fits

PROVEN = ("Adam", "AdamW", "SGD")
"""What is trained with in every test, and need not be tried first; that takes a second or two."""
FUSED = ("Adam", "AdamW", "SGD")
"""What torch computes in one pass over weights, gradients and state, on a CPU as on a GPU: three times as fast on
a CPU, and without a copy of the state on a GPU. It is not torch's default."""


def settings_of(
    whole: Mapping[str, Any], each: Mapping[str, Mapping[str, Any]], objective: genloom.Objective
) -> genloom.Optimizer:
    """An objective's settings: the run's words for it, over those for all, over the generator's own."""
    own = objective.optimizer.model_dump(exclude_unset=True) if objective.optimizer else {}
    return genloom.Optimizer.model_validate({**own, **whole, **each.get(objective.name, {})})


def check(settings: genloom.Optimizer, named_at: str = "optimizer.name") -> Problem | None:
    """What keeps `torch.optim` from making such an optimizer; None where nothing does.

    Args:
        settings: An objective's.
        named_at: The key that gives the optimizer's name.
    """
    known = _known()
    if settings.name not in known:
        close = difflib.get_close_matches(settings.name, known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"give one of {', '.join(sorted(known))}"
        return Problem(named_at, repr(settings.name), "is no optimizer of torch.optim", remedy)
    taken = inspect.signature(known[settings.name]).parameters
    foreign = [name for name in _given(settings) if name not in taken]
    if foreign:
        rule = f"{settings.name} takes no {' and no '.join(foreign)}"
        return Problem(
            "optimizer", repr(_given(settings)), rule, "leave it out, or choose another optimizer"
        )
    if settings.name in PROVEN:
        return None
    try:
        tried(settings, 8)
    except Exception as error:  # each of torch's optimizers refuses in its own way
        rule = f"cannot train here: {str(error).splitlines()[0]}"
        return Problem(named_at, repr(settings.name), rule, "choose another, such as AdamW")
    return None


def tried(settings: genloom.Optimizer, numel: int) -> tuple[torch.optim.Optimizer, nn.Parameter]:
    """An optimizer that has stepped a flat parameter twice, as ZeRO lays the model's out, and the parameter."""
    parameter = nn.Parameter(torch.zeros(numel))
    optimizer = make(settings, [parameter])
    parameter.grad = torch.ones(numel)
    for _ in range(2):
        optimizer.step()
    return optimizer, parameter


def make(
    settings: genloom.Optimizer,
    parameters: Sequence[nn.Parameter],
    factor: Callable[[nn.Parameter], float] = lambda parameter: 1.0,
) -> torch.optim.Optimizer:
    """The optimizer, over the parameters that train.

    Args:
        settings: As `check` found them good.
        parameters: What is trained.
        factor: Of a parameter's learning rate; those with the same one are a group.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault(factor(parameter), []).append(parameter)
    fused = settings.name in FUSED and all(p.is_floating_point() for p in parameters)
    return _known()[settings.name](
        [{"params": members, "lr": settings.lr * each} for each, members in groups.items()],
        **_given(settings),
        **({"fused": True} if fused else {}),
    )


def place_counts(optimizer: torch.optim.Optimizer) -> None:
    """Bring the counts of steps, which may have been loaded, to where a fused optimizer wants them."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("fused") else ():
            state = optimizer.state.get(parameter, {})
            if "step" in state:
                state["step"] = state["step"].to(parameter.device)


def factor_of(name: str, rates: Mapping[str, float]) -> float:
    """The factor on a parameter's learning rate: that of the last pattern that fits its name."""
    return next((rates[pattern] for pattern in reversed([*rates]) if fits(pattern, name)), 1.0)


def _given(settings: genloom.Optimizer) -> dict[str, Any]:
    return settings.model_dump(exclude={"name"}, exclude_none=True)


def _known() -> dict[str, Any]:
    classes = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    return {
        name: value
        for name, value in classes.items()
        if issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }


def _without_compiler() -> None:
    """Let torch's optimizers do without its compiler.

    Each would import it when it is made and when it steps, to be left out of what it compiles: over a second of
    each worker's start, and 70 MB. No run of ours has a compiled optimizer.
    """
    for kind in _known().values():
        step: Any = vars(kind).get("step")
        if step and step.__code__.co_name == "_use_grad":
            kind.step = _plain(step.__wrapped__)
    for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group"):
        method: Any = getattr(torch.optim.Optimizer, name)
        method.__wrapped__.__dynamo_disable = method.__wrapped__  # where torch keeps what it made of it


def _plain(step: Callable[..., Any]) -> Callable[..., Any]:
    """An optimizer's step as torch decorates it, but for the marks that it sets for its compiler."""

    @functools.wraps(step)
    def call(optimizer: Any, *arguments: Any, **named: Any) -> Any:
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return step(optimizer, *arguments, **named)

    return call


_without_compiler()
