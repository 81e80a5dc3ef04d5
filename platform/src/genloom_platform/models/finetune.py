"""The `finetune:` section of a run: which model it starts from, and what of it trains.

    finetune:
      model: image-classifier@1
      freeze: [layers.0, "layers.4*"]
      rates: {layers.12: 10}

A pattern fits a parameter by its name, or by the name of a module that holds it; `*` stands for anything.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from genloom.errors import PluginError, RequestError
from genloom_platform.settings import Settings
from genloom_platform.store import Store

SECTION = ("freeze", "lora", "rates")
"""Keys that `genloom finetune` takes without `finetune.` before them."""


class Lora(Settings):
    """Low-rank adapters: all weights stay, and each layer learns a product of two thin matrices beside its own.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021. Linear and convolutional layers and
    embeddings can have one; recurrent layers, attention in one piece (nn.MultiheadAttention), grouped and
    transposed convolutions cannot, and stay as they are.
    """

    rank: int = Field(default=4, ge=1)
    """The thin side of the two matrices."""
    alpha: float | None = Field(default=None, gt=0)
    """The product counts alpha / rank times; twice the rank where None."""
    dropout: float = Field(default=0, ge=0, lt=1)
    """Share of a layer's inputs that the product does not see in a step of training."""
    targets: list[str] = Field(default_factory=list)
    """Patterns of the layers that have one; all linear and convolutional layers where there are none. An
    embedding has one where a pattern fits it."""

    @property
    def scale(self) -> float:
        """Alpha, as it is in force."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


class Finetune(Settings):
    """A run that starts from a registered model."""

    model: str
    """The parent: `name`, `name@number` or `name@alias`. What was found is recorded as `name@number`."""
    freeze: list[str] = Field(default_factory=list)
    """Patterns of the parameters that keep the parent's weights; what begins anew trains in any case, so `["*"]`
    trains a new head alone. A normalisation whose parameters are all frozen keeps its statistics too."""
    lora: Lora | None = None
    """Train adapters in place of the weights; what is saved is small, and needs the parent."""
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factors on the learning rate by pattern: `{layers.0: 0.1}`. Of several that fit, the last counts."""

    @model_validator(mode="after")
    def _one_way_to_freeze(self) -> "Finetune":
        if self.lora and self.freeze:
            raise ValueError(
                "freeze and lora exclude each other: with adapters no weight of the parent trains; leave freeze "
                "out, and name the layers that have adapters in lora.targets"
            )
        return self


def request(model: str, words: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The raw configuration of a finetune, from a parent and keys of the finetune, the run or the generator.

    Raises:
        RequestError: What lies on the way to a key is a value.
    """
    from genloom_platform.config import nest, put

    values: dict[str, Any] = {"finetune": {"model": model}}
    for key, value in words:
        first, _, rest = key.partition(".")
        if first == "rates" and rest:
            nest(values, ["finetune", "rates", rest], value)  # a pattern has dots of its own
        elif first in SECTION:
            nest(values, ["finetune", *key.split(".")], value)
        else:
            put(values, key, value)
    return values


def inherited(values: Mapping[str, Any], store: Store) -> Mapping[str, Any]:
    """A raw configuration with all that a finetune takes from its parent; others as they are.

    Raises:
        UnknownName: There is no such model.
        RequestError: Its generator is not installed, or is another than the configuration's.
        ContractMismatch: Its generator was written for another contract.
    """
    section, given = values.get("finetune"), values.get("generator", {})
    if not isinstance(section, Mapping) or not isinstance(section.get("model"), str):
        return values
    if not isinstance(given, Mapping):
        return values
    from genloom_platform.models.registry import Registry

    version = Registry(store).find(section["model"])
    own = version.release.generator
    if given.get("name", own["name"]) != own["name"]:
        raise RequestError(
            f"{version.full_name} is of the generator {own['name']!r}, and the run's is {given['name']!r}; "
            f"leave generator.name out, or finetune a model of {given['name']!r}"
        )
    try:
        version.release.trainable()
    except PluginError as error:
        raise RequestError(str(error)) from error
    return {
        **values,
        "model": values.get("model") or version.name,
        "finetune": {**section, "model": version.full_name},
        "generator": _over(own, given),
    }


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another, and so on within."""
    merged = dict(below)
    for key, value in above.items():
        under: Any = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(under, value) if both else value
    return merged
