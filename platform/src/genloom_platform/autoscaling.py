"""What a cluster's autoscaler can bring it to.

Ray knows only what is there, so whoever sets a cluster up tells it:

    GENLOOM_AUTOSCALES_TO=CPU=4+10*CPU=8,GPU=1

is a machine of 4 CPUs and ten of 8 CPUs and a GPU, with those that are there already.
"""

import os
from collections.abc import Mapping, Sequence

from genloom.errors import RequestError

VARIABLE = "GENLOOM_AUTOSCALES_TO"

Resources = Mapping[str, float]
"""What a machine has, by kind: CPU, GPU, or a resource of the cluster's own."""


def machines() -> Sequence[Resources]:
    """Each machine that the cluster can have; none where it has no autoscaler.

    Raises:
        RequestError: What was told is no such thing.
    """
    return of(os.environ.get(VARIABLE, ""))


def of(told: str) -> Sequence[Resources]:
    """The machines that the variable tells; raises as `machines`."""
    try:
        return [each for kind in told.split("+") if kind.strip() for each in _of_a_kind(kind)]
    except ValueError:
        raise RequestError(
            f"{VARIABLE} = {told!r}: it tells the machines that the cluster can grow to, as in "
            f"CPU=4+10*CPU=8,GPU=1 for one of 4 CPUs and ten of 8 CPUs and a GPU; mend it where the cluster's "
            f"machines are set up"
        ) from None


def total(machines: Sequence[Resources]) -> Resources:
    """What machines have together, by kind."""
    kinds = {kind for each in machines for kind in each}
    return {kind: sum(each.get(kind, 0) for each in machines) for kind in kinds}


def _of_a_kind(told: str) -> list[Resources]:
    count, star, words = told.rpartition("*")
    pairs = [word.split("=") for word in words.split(",")]
    found = {kind.strip(): float(number) for kind, number in pairs}
    if not all(kind and 0 <= number < float("inf") for kind, number in found.items()):
        raise ValueError(told)
    return [found] * (int(count) if star else 1)
