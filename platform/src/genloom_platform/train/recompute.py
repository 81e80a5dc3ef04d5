"""Activation checkpointing: memory for time.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from genloom.errors import RequestError


def activations(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let modules keep no activations for the backward pass, but compute them again.

    Args:
        model: The model.
        patterns: Names of its modules, as in `blocks.*`.

    Raises:
        RequestError: A pattern fits no module.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    for pattern in patterns:
        fitting = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
        if not fitting:
            known = ", ".join(list(modules)[:8])
            raise RequestError(f"recompute={pattern!r} fits no module of the model; it has {known}")
        for module in fitting:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)
