"""Averaged weights: an exponential moving average of every trained parameter.

Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; with warm-up, so
that a short run is not averaged with its first, random weights: decay_t = min(decay, (1 + t) / (10 + t)).
"""

from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """The average of a model's parameters on one rank.

    Averaging is linear, so under ZeRO-3 each rank averages the partition that it holds.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._decay = decay
        self._updates = 0
        self._mean = [_held(p).detach().clone().float() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        self._updates += 1
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

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self._updates, "mean": self._mean}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's state."""
        self._updates = state["updates"]
        for mean, saved in zip(self._mean, state["mean"], strict=True):
            mean.copy_(saved)


def _held(parameter: nn.Parameter) -> Tensor:
    """The values of a parameter that this rank holds: its partition under ZeRO-3, else all."""
    partition: Any = getattr(parameter, "ds_tensor", None)
    return parameter.data if partition is None else partition
