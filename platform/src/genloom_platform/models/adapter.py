"""Low-rank adapters, by `peft`: which layers can have one, putting them in, and adding them to the weights.

`peft` puts a layer of its own in the place of each, which calls the layer and adds the product of its two
matrices. Merged, that product is added to the layer's weights, and the network is a plain one again.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from genloom.data import Facts
from genloom_platform.models.finetune import Lora
from genloom_platform.train.patterns import fits

if TYPE_CHECKING:  # commands that only read of adapters need no torch, which takes seconds to import
    from torch import nn


class Adapter(Facts):
    """What makes a whole model of an adapter's weights and its base's."""

    rank: int
    alpha: float
    """The product of the two matrices counts alpha / rank times."""
    targets: tuple[str, ...]
    """The layers that have one, by name."""
    base: str = Field(pattern=r"^models(/[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*){2}$")
    """The base version's folder in the store."""
    base_sha256: str
    """Of the base version's weights."""


def possible(model: "nn.Module", without: Collection[str]) -> "dict[str, nn.Module]":
    """The layers that can have an adapter, by name.

    Args:
        model: The model.
        without: Parameters that train in full, by name; their layers have none.
    """
    from torch import nn

    kinds = (*_default(), nn.Embedding)
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    attention = [
        name for name, each in model.named_modules() if isinstance(each, nn.MultiheadAttention)
    ]
    found: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        # A weight that is computed from others (weight norm), shared with another layer, or read past its layer
        # cannot take up a product when the two are merged.
        if (
            name
            and isinstance(layer, kinds)
            and "weight" in own
            and own["weight"].requires_grad
            and uses[id(own["weight"])] == 1
            and getattr(layer, "groups", 1) == 1
            and not any(name.startswith(f"{each}.") for each in attention)
            and not any(f"{name}.{each}" in without for each in own)
        ):
            found[name] = layer
    return found


def chosen(layers: "dict[str, nn.Module]", patterns: Collection[str]) -> tuple[str, ...]:
    """Which of the layers have an adapter, by name: those that a pattern fits, or all of the default kinds."""
    if not patterns:
        return tuple(name for name, layer in layers.items() if isinstance(layer, _default()))
    return tuple(name for name in layers if any(fits(pattern, name) for pattern in patterns))


def _default() -> "tuple[type[nn.Module], ...]":
    """The kinds of layers that have an adapter where none are named."""
    from torch import nn

    return nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d


def inject(
    model: "nn.Module", rank: int, alpha: float, targets: Collection[str], dropout: float = 0
) -> None:
    """Put adapters in the place of layers; at first they add nothing. All else is frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType] - it is only ever multiplied with
        lora_dropout=dropout,
        target_modules="|".join(
            re.escape(name) for name in targets
        ),  # a list would fit by the ends of names
    )
    inject_adapter_in_model(settings, model)


def put_in(model: "nn.Module", lora: Lora, targets: Collection[str]) -> None:
    """The same, by a run's settings."""
    inject(model, lora.rank, lora.scale, targets, lora.dropout)


def own_names(model: "nn.Module") -> set[str]:
    """The names of the adapters' own weights in a model's state."""
    return {
        f"{name}.{each}"
        for name, layer in _adapted(model)
        for each, _ in layer.named_parameters()
        if not each.startswith("base_layer.")
    }


def merge(model: "nn.Module") -> None:
    """Add the adapters' products to the weights, and take the adapters out."""
    for name, layer in list(_adapted(model)):
        layer.merge(safe_merge=True)
        model.set_submodule(name, layer.get_base_layer())


def _adapted(model: "nn.Module") -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module
