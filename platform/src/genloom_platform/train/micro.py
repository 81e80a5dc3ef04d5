"""Micro batches: how a share is split, what is drawn for it, and what its loss says."""

import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

import genloom
from genloom.errors import PluginError


def split(batch: genloom.Batch, count: int) -> Iterator[genloom.Batch]:
    """A batch in equal micro batches."""
    if count == 1:
        yield batch
        return
    pieces = {
        name: value.chunk(count) if isinstance(value, Tensor) else (value,) * count
        for name, value in batch.items()
    }
    for number in range(count):
        yield {name: piece[number] for name, piece in pieces.items()}


def scalar(name: str, value: Tensor | float, device: torch.device) -> Tensor:
    """A metric as one number on the device; the device is not waited for."""
    number = torch.as_tensor(value, dtype=torch.float32, device=device).detach()
    if number.numel() != 1:
        raise PluginError(f"the metric {name!r} has shape {list(number.shape)}; return its mean")
    return number.reshape(())


def seed_everything(seed: int, purpose: str) -> None:
    """Seed all that a model or a loss may draw from; so no random state has to be saved."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big")
    # torch.manual_seed would note a stack trace for every kind of device that it does not find: 0.1 ms a step.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)
    random.seed(number)
    np.random.seed(number % (1 << 32))
