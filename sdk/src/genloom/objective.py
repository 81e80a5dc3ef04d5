"""How a generator is trained: `Loss`, what one batch costs; `Objective`, which part learns from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """The cost of one batch."""

    value: "Tensor"
    """A scalar with gradient: the mean over the batch's examples, so that it means the same for
    every number of workers."""
    metrics: Mapping[str, "Tensor | float"] = field(default_factory=dict[str, "Tensor | float"])
    """Scalars to report beside it, by name, each a mean over the examples too."""


class Optimizer(BaseModel):
    """An optimizer and its settings; what is None keeps the optimizer's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = "AdamW"
    """Adam, AdamW, SGD, or any other class of `torch.optim`."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate."""
    betas: tuple[float, float] | None = None
    """Decay rates of the moments (Adam and its kin)."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled for AdamW, an L2 penalty for the others."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """Momentum (SGD)."""
    eps: float | None = Field(default=None, gt=0)
    """The term that keeps a division finite (Adam and its kin)."""


@dataclass(frozen=True)
class Objective:
    """A loss and the part of the model that it trains. A GAN has two.

    While an objective trains, the platform freezes every other part of the model. Objectives
    take their turns in the order of `Trainable.objectives`; a part belongs to one objective only.
    """

    name: str
    """Names its loss in the run's metrics, as in "critic"."""
    loss: Callable[[Any, Any], Loss]
    """`loss(model, batch)`, as `Trainable.loss`."""
    trains: str | Sequence[str] = ()
    """The child or children of the model that it trains ("critic", "encoder.head"); all if empty."""
    repeats: int = 1
    """How often it trains in one step, each time on a batch of its own. A step reads as many
    batches as its most frequent objective needs; the others train on the last of them."""
    optimizer: Optimizer | None = None
    """Its optimizer, where the run's configuration names none."""
    whole_weights: bool = False
    """Set it where the loss differentiates twice (a gradient penalty) or reads a parameter outside of a
    module's forward. ZeRO-3 then keeps the model's weights whole on every rank while the loss and its
    gradients are computed, instead of a layer at a time."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"objective {self.name!r} repeats {self.repeats} times; give 1 or more")

    @property
    def parts(self) -> tuple[str, ...]:
        """`trains` as a tuple of dotted paths; empty for the whole model."""
        return (self.trains,) if isinstance(self.trains, str) else tuple(self.trains)
