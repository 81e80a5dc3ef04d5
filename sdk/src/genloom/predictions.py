"""What a predictor answers: `Label`, `Value`, `Embedding` or `Ranking`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Prediction(BaseModel):
    """The base of a predictor's answers: a value with a JSON form."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Label(Prediction):
    """One of the classes of the dataset."""

    kind: Literal["label"] = "label"
    index: int
    """The class, by its index."""
    name: str = ""
    """The class, by its name."""
    probabilities: tuple[float, ...] = ()
    """One a class, in the order of the classes; they sum to 1."""


class Value(Prediction):
    """A number."""

    kind: Literal["value"] = "value"
    value: float


class Embedding(Prediction):
    """Features."""

    kind: Literal["embedding"] = "embedding"
    vector: tuple[float, ...]


class Ranking(Prediction):
    """Things in order of preference, the best first."""

    kind: Literal["ranking"] = "ranking"
    ids: tuple[int, ...]
    scores: tuple[float, ...]
