"""The bodies of an endpoint's good answers, as its OpenAPI page shows them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """The base of all: documented by field."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Health(Answer):
    """The endpoint answers, and its models are loaded."""

    status: Literal["ok"] = "ok"


class ModelEntry(Answer):
    """One served model, in the shape of OpenAI's API, with what Genloom knows beyond it."""

    id: str
    """What a request names it by; `id@version` is understood too."""
    object: Literal["model"] = "model"
    created: int
    """When it was released, in Unix time."""
    owned_by: Literal["genloom"] = "genloom"
    version: str
    run: str | None
    """The run that made it; with name and version, where its lineage begins."""
    kind: Literal["generator", "predictor"]
    makes: str
    """What a generator makes (`image`, `text` …), or what a predictor tells (`label`)."""


class ModelList(Answer):
    """What is served."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Media(Answer):
    """A picture, a sound or a score."""

    media_type: str
    """As in `image/png`, `audio/wav`, `audio/midi`."""
    data: str
    """The file, in base64."""


class SampleAnswer(Answer):
    """What was made of one prompt."""

    seed: int
    """Send it again for the same sample."""
    prompt: dict[str, Any]
    """The prompt with its defaults, without its media."""
    sample: Media | str
    """A file, or a text as it is."""


class GenerateAnswer(Answer):
    """One sample for each prompt, in order."""

    model: str
    """Name and version of what made them."""
    samples: list[SampleAnswer]


class PredictAnswer(Answer):
    """One prediction for each prompt, in order."""

    model: str
    """Name and version of what answered."""
    predictions: list[dict[str, Any]]
    """Each of a `kind`: `label` (index, name, probabilities), `value` (value), `embedding` (vector)
    or `ranking` (ids, scores)."""
