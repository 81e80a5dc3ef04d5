"""Generators with a likelihood: bits per character of a text, bits per unit of anything else."""

import math
from collections.abc import Iterable
from typing import Any

import genloom
from genloom.data import TextColumn


def score(
    trainable: genloom.Trainable, module: Any, facts: Any, batches: Iterable[genloom.Batch]
) -> dict[str, float]:
    """Bits a unit over all examples: the sum of their negative log-likelihoods over that of their units.

    Empty where the generator gives no likelihood.
    """
    nats, units = 0.0, 0.0
    for batch in batches:
        likelihood = trainable.likelihood(module, batch)
        if likelihood is None:
            return {}
        nats += likelihood.nats.double().sum().item()
        units += likelihood.units.double().sum().item()
    text = any(isinstance(value, TextColumn) for _, value in facts)
    name = "bits_per_character" if text else "bits_per_unit"
    return {name: nats / units / math.log(2)} if units else {}
