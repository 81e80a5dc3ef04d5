"""What a finetune starts with: which of the parent's weights fit, which do not, and what of the model trains.

`plan` finds it out before the run begins; it is recorded with the run, and `prepare` follows it in every worker.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import genloom
from genloom.data import Facts
from genloom.errors import DataError, InvalidConfig, Problem, RequestError
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.models import adapter, inheritance, release
from genloom_platform.models.finetune import Finetune
from genloom_platform.models.inheritance import Renewed
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store
from genloom_platform.train.patterns import fits, nearest

if TYPE_CHECKING:
    from torch import nn


class Start(Facts):
    """What a finetune starts with."""

    parent: str
    """`name@number`."""
    place: str
    """The parent's folder in the store."""
    sha256: str
    """Of the parent's weights."""
    renewed: tuple[Renewed, ...] = ()
    """What of the model the parent's weights do not fill."""
    unused: tuple[str, ...] = ()
    """What of the parent the model has no place for."""
    targets: tuple[str, ...] = ()
    """The layers that have an adapter."""
    trainable: int = 0
    """Parameters that train."""
    parameters: int = 0
    """Parameters in all, the adapters' included."""

    @property
    def summary(self) -> str:
        """What it is, on one line."""
        where = f", by adapters on {len(self.targets)} layers" if self.targets else ""
        return f"finetunes {self.parent}: {self.trainable:,} of {self.parameters:,} parameters train{where}"

    @property
    def lines(self) -> list[str]:
        """The same, and what does not come from the parent as it is, a line each."""
        renewed = [f"re-initialised: {each}" for each in self.renewed]
        return [self.summary, *renewed, *(f"left out: {name} of {self.parent}" for name in self.unused)]


def plan(store: Store, config: RunConfig) -> Start | None:
    """What a run starts with, by its model without weights; None where it is no finetune.

    Raises:
        InvalidConfig: All patterns that fit nothing, and objectives of which nothing would train.
        RequestError: The parent does not exist, or none of its weights fits.
    """
    if config.finetune is None:
        return None
    from genloom_platform.train.sizes import without_weights

    settings, trainable = config.finetune, config.trainable()
    parent = Registry(store).find(settings.model).release
    data = manifests.load(store, config.data).facts_for(trainable)
    model = without_weights(trainable, data)
    places = inheritance.places(partial(without_weights, trainable), data, model, parent.columns)
    shapes = release.shapes(store, parent)
    renewed, unused = inheritance.compared(model, shapes, places, parent.columns, data)
    anew = {each.name for each in renewed if not each.kept}
    if anew.issuperset(name for name, _ in model.named_parameters()):
        raise RequestError(
            f"none of the weights of {settings.model} fits the model that was asked for; change less of its "
            f"generator, or train one anew: genloom train {config.generator_name}"
        )
    started = Start(
        parent=settings.model,
        place=parent.path,
        sha256=parent.weights_sha256,
        renewed=tuple(renewed),
        unused=tuple(unused),
    )
    return _counted(started, settings, trainable, model)


def _counted(
    start: Start, settings: Finetune, trainable: genloom.Trainable, model: "nn.Module"
) -> Start:
    """The same with the adapters' layers and the number of parameters that train."""
    from genloom_platform.train.parts import parts_of

    problems = _unfitting(settings, model)
    if settings.lora:
        targets, faults = _targets(start, settings.lora.targets, trainable, model)
        problems += faults
        start = start.model_copy(update={"targets": targets})
    if not problems:
        arrange(model, settings, start)
        problems = _frozen(settings, trainable, model) or _rates(settings, model)
    if problems:
        raise InvalidConfig("the finetune", problems)
    parts = parts_of(model, list(trainable.objectives()))
    trains = sum(p.numel() for part in parts for p in part.parameters)
    total = sum(p.numel() for p in model.parameters())
    return start.model_copy(update={"trainable": trains, "parameters": total})


def arrange(model: "nn.Module", settings: Finetune, start: Start) -> None:
    """Put in the adapters, and freeze what does not train."""
    renewed = {each.name for each in start.renewed}
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if settings.lora:
        adapter.put_in(model, settings.lora, start.targets)
        for name, parameter in model.named_parameters():
            if name in renewed and name in trained:
                parameter.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if name not in renewed and any(fits(pattern, name) for pattern in settings.freeze):
            parameter.requires_grad_(False)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own) and list(module.buffers(recurse=False)):
            module.eval()  # a normalisation's statistics belong to its weights
            module.train = partial(_stay, module)


def _stay(module: "nn.Module", mode: bool = True) -> "nn.Module":  # noqa: ARG001
    """Stands in the place of a frozen module's `train`."""
    return module


def prepare(
    store: Store, config: RunConfig, start: Start, data: Any, model: "nn.Module", *, fresh: bool
) -> None:
    """Make a model that was just built ready to be finetuned.

    Args:
        store: Where the parent is.
        config: The run.
        start: What it starts with.
        data: The facts of its dataset, as the generator's `Data`.
        model: The model.
        fresh: Whether it takes the parent's weights; a run that goes on takes a checkpoint's.

    Raises:
        DataError: The parent's weights are not those that the run was planned with.
    """
    assert config.finetune
    if fresh:
        parent = release.read(store, start.place)
        if parent.weights_sha256 != start.sha256:
            raise DataError(
                f"{start.parent} had weights of SHA-256 {start.sha256} when the run was planned, and now "
                f"{start.place} has those of {parent.weights_sha256}; start the run anew"
            )
        weights = release.weights(store, parent)
        inheritance.fill(model, weights, {each.name for each in start.renewed})
        inheritance.carry_over(model, weights, start.renewed, parent.columns, data)
    arrange(model, config.finetune, start)
    print("\n".join(start.lines))  # to the worker's log


def _unfitting(settings: Finetune, model: "nn.Module") -> list[Problem]:
    """Patterns of `freeze` that fit nothing."""
    names = [name for name, _ in model.named_parameters()]
    return [
        Problem(
            "finetune.freeze", repr(pattern), "fits no parameter of the model", nearest(pattern, names)
        )
        for pattern in settings.freeze
        if not any(fits(pattern, name) for name in names)
    ]


def _targets(
    start: Start, patterns: Sequence[str], trainable: genloom.Trainable, model: "nn.Module"
) -> tuple[tuple[str, ...], list[Problem]]:
    """The layers that have an adapter, and the patterns that fit none."""
    from genloom_platform.train.parts import parts_of

    parts = parts_of(model, list(trainable.objectives()))
    trains = {id(parameter) for part in parts for parameter in part.parameters}
    without = {name for name, p in model.named_parameters() if id(p) not in trains}
    layers = adapter.possible(model, without | {each.name for each in start.renewed})
    targets = adapter.chosen(layers, patterns)
    kinds = (
        "linear or convolutional layer, and no embedding,"
        if patterns
        else "linear or convolutional layer"
    )
    rule = f"fits no {kinds} that can have an adapter"
    problems = [
        Problem(
            "finetune.lora.targets",
            repr(pattern),
            rule + _why(pattern, model),
            nearest(pattern, layers),
        )
        for pattern in patterns
        if not any(fits(pattern, name) for name in layers)
    ]
    if not patterns and not targets:
        remedy = "finetune all of it, or parts with freeze"
        problems = [Problem("finetune.lora", "", f"the model has no {kinds} that can have one", remedy)]
    return targets, problems


def _why(pattern: str, model: "nn.Module") -> str:
    """What a pattern fits instead of layers that can have an adapter."""
    kinds = {type(m).__name__ for name, m in model.named_modules() if name and fits(pattern, name)}
    return f" (it fits {', '.join(sorted(kinds))})" if kinds else ""


def _frozen(settings: Finetune, trainable: genloom.Trainable, model: "nn.Module") -> list[Problem]:
    """Objectives of which nothing trains."""
    from genloom_platform.train.parts import module_of

    where, remedy = "finetune.freeze", "leave some of it out"
    if settings.lora:
        where, remedy = "finetune.lora.targets", "give some of its layers an adapter"
    return [
        Problem(where, "", f"leaves the objective {objective.name!r} nothing to train", remedy)
        for objective in trainable.objectives()
        if not any(p.requires_grad for p in module_of(model, objective).parameters())
    ]


def _rates(settings: Finetune, model: "nn.Module") -> list[Problem]:
    """Patterns of `rates` that fit nothing that trains."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        Problem(
            f"finetune.rates.{pattern}", "", "fits no parameter that trains", nearest(pattern, names)
        )
        for pattern in settings.rates
        if not any(fits(pattern, name) for name in names)
    ]
