"""Averaged weights: an exponential moving average of every trained parameter.

Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; with warm-up, so
that a short run is not averaged with its first, random weights: decay_t = min(decay, (1 + t) / (10 + t)).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genloom_platform.train.holding import Held, Piece, piece_of_partition


class Average:
    """The average of a model's parameters on one rank.

    Averaging is linear, so under ZeRO-3 each rank averages the partition that it holds.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in named]
        self._parameters = [parameter for _, parameter in named]
        self._decay = decay
        self.updates = 0
        """How often weights were taken in."""
        self._mean = [_held(p).detach().clone().float() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        present = [_held(p).float() for p in self._parameters]
        torch._foreach_lerp_(self._mean, present, 1 - decay)  # pyright: ignore[reportPrivateUsage]

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and their average."""
        for parameter, mean in zip(self._parameters, self._mean, strict=True):
            held = _held(parameter)
            present = held.detach().clone()
            held.copy_(mean)
            mean.copy_(present)

    def held(self) -> Iterator[Held]:
        """What this rank holds of the average, as a checkpoint keeps it."""
        for name, parameter, mean in zip(self._names, self._parameters, self._mean, strict=True):
            partitioned = hasattr(parameter, "ds_tensor")
            piece = (
                piece_of_partition(parameter, name, 0, mean.numel())
                if partitioned
                else Piece(name, 0, 0, mean.numel())
            )
            yield Held(mean, {}, (piece,), whole=not partitioned, trained=False)


def _held(parameter: nn.Parameter) -> Tensor:
    """The values of a parameter that this rank holds: its partition under ZeRO-3, else all."""
    partition: Any = getattr(parameter, "ds_tensor", None)
    return parameter.data if partition is None else partition
