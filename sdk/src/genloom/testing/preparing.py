"""What comes before training: a model of the facts, rows made examples, examples made batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genloom.testing.case import BATCH, Case
from genloom.testing.comparing import same
from genloom.testing.rules import Broken, Rule, listed, rule


@rule(
    "build",
    "build(data) makes one torch.nn.Module with weights to train, each of one dimension or more",
    "mend build; or, where the kit's example rows do not suit it, give check(…, rows=[{…}, …])",
    needs=("configuration", "columns"),
)
def build(case: Case) -> str:
    """A module comes of the facts."""
    assert case.torch  # it raises Broken where the model is no module
    weights = {name: p for name, p in case.build().named_parameters() if p.requires_grad}
    if not weights:
        raise Broken(
            "the module has no parameter that requires gradients",
            "assign its layers to attributes of it",
        )
    scalars = [name for name, weight in weights.items() if weight.ndim == 0]
    if scalars:  # DeepSpeed cannot send them
        raise Broken(f"{listed(scalars)} has no dimension", "give it one: nn.Parameter(torch.zeros(1))")
    return f"{sum(weight.numel() for weight in weights.values()):,} weights"


@rule(
    "weights from the seed",
    "the same seed gives the same fresh weights: every worker builds its own copy",
    "draw weights from torch's global generator alone (torch.nn.init, torch.randn), never from numpy "
    "or random; fill what torch.empty made",
    needs=("build",),
)
def seeded_weights(case: Case) -> str:
    """Two builds under one seed are equal."""
    one, other = case.build().state_dict(), case.build().state_dict()
    if one.keys() != other.keys():
        raise Broken("two builds have different children")
    unequal = [name for name, value in one.items() if not same(_array(value), _array(other[name]))]
    if unequal:
        raise Broken(f"two builds under one seed differ in {listed(unequal)}")
    return ""


@rule(
    "prepare",
    "prepare(row, data) gives name → numpy array, CPU tensor or number, the same names for each row; "
    "it leaves the row as it was",
    "return a dict of arrays and numbers; copy before changing what the row holds",
    needs=("build",),
)
def prepare(case: Case) -> str:
    """Every row becomes an example."""
    names: list[str] = []
    for index, row in enumerate(case.rows):
        before = _frozen(row)
        example: Any = case.example(index)
        if not isinstance(example, Mapping) or not example:
            raise Broken(f"row {index} became {type(example).__name__}")
        for name, value in example.items():
            if np.asarray(value).dtype.kind not in "biuf":
                raise Broken(
                    f"row {index}: {name!r} is {type(value).__name__}, which no tensor can be made of"
                )
        if names and set(example) != set(names):
            raise Broken(f"row {index} has {listed(example)}, row 0 {listed(names)}")
        names = list(example)
        if not same(before, _frozen(row)):
            raise Broken(f"row {index} was changed by prepare")
    return f"{len(case.rows)} rows: {listed(names)}"


@rule(
    "prepare repeats",
    "the same row and seed give the same example: a resumed run must see what the first one saw",
    "draw random numbers from row.rng alone",
    needs=("prepare",),
)
def prepare_repeats(case: Case) -> str:
    """Twice the same."""
    for index in range(len(case.rows)):
        with case.seeded(index):
            one = case.example(index)
        with case.seeded(index + 1):
            other = case.example(index)
        if not same(one, other):
            unequal = [name for name in one if not same(one[name], other[name])]
            raise Broken(f"row {index} gives two different {listed(unequal)}")
    return ""


@rule(
    "collate",
    "collate(examples) gives name → tensor whose first dimension is the batch",
    "give all examples one shape in prepare, or override collate and pad there",
    needs=("prepare",),
)
def collate(case: Case) -> str:
    """A batch of some rows, and one of a single row."""
    for count in (BATCH, 1):
        batch: Any = case.batch(count)
        if not isinstance(batch, Mapping):
            raise Broken(f"collate returned {type(batch).__name__}")
        for name, value in batch.items():
            shape = list(getattr(value, "shape", []))
            if shape[:1] != [count]:
                raise Broken(f"{name!r} of {count} examples has shape {shape}")
    shapes = {name: list(value.shape) for name, value in case.batch().items()}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _array(tensor: Any) -> Any:
    return tensor.detach().float().numpy() if tensor.is_floating_point() else tensor.numpy()


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of what a row holds."""
    parts = {
        name: getattr(value, "array", getattr(value, "waveform", value)) for name, value in row.items()
    }
    return {
        name: value.copy() if isinstance(value, np.ndarray) else value for name, value in parts.items()
    }


RULES: tuple[Rule, ...] = (build, seeded_weights, prepare, prepare_repeats, collate)
