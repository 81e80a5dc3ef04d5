"""Generators with a likelihood: bits per character of a text, bits per unit of anything else."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import genloom
from genloom.data import TextColumn
from genloom_platform.evaluate.measured import resampled


def score(
    trainable: genloom.Trainable,
    module: Any,
    facts: Any,
    batches: Iterable[genloom.Batch],
    on: str = "",
) -> dict[str, float]:
    """Bits a unit over all examples: the sum of their negative log-likelihoods over that of their units.

    Empty where the generator gives no likelihood. Where it is said
    what they are, it comes with the bootstrap's interval over them.
    """
    nats: list[float] = []
    units: list[float] = []
    for batch in batches:
        likelihood = trainable.likelihood(module, batch)
        if likelihood is None:
            return {}
        nats += likelihood.nats.double().tolist()
        units += likelihood.units.double().tolist()
    if not sum(units):
        return {}
    text = any(isinstance(value, TextColumn) for _, value in facts)
    name = "bits_per_character" if text else "bits_per_unit"
    return resampled((np.asarray(nats), np.asarray(units)), _bits, [name], on)


def _bits(nats: NDArray[Any], units: NDArray[Any]) -> NDArray[Any]:
    return (nats.sum(-1) / units.sum(-1) / math.log(2))[None]
