"""`/v1/embeddings`: texts or pictures as features, by predictors that answer with them."""

import base64
import struct
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from genloom_platform.serve.asking import Backend, ask
from genloom_platform.serve.body import read_json
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.errors import Refusal
from genloom_platform.serve.fields import Takes
from genloom_platform.serve.model import Card
from genloom_platform.serve.speaking.answers import EmbeddingsAnswer
from genloom_platform.serve.speaking.request import (
    ONE_OR_MORE,
    Asked,
    as_model,
    check_count,
    check_query,
    field_for,
    prompt_of,
)

TAKES: tuple[Takes, ...] = ("text", "image", "audio")


class EmbeddingsRequest(Asked):
    """What to find the features of."""

    input: Annotated[list[str], ONE_OR_MORE]
    """A text or several; for a model that takes pictures or sounds, each in base64 or as a data URL."""
    encoding_format: Literal["float", "base64"] | None = None
    """`float` where nothing is said; clients of OpenAI's ask for `base64` by themselves."""


def add_routes(app: FastAPI, backend: Backend, catalog: Catalog) -> None:
    """Add the route of this file."""

    @app.post("/v1/embeddings", tags=["openai"], response_model=EmbeddingsAnswer)
    async def embeddings(request: Request) -> Response:
        """Find features."""
        check_query(request)
        asked = as_model(EmbeddingsRequest, await read_json(request))
        card = catalog.find("predictor", asked.model)
        inputs = asked.input
        check_count("input", len(inputs))
        field = _field(card)
        rest = prompt_of(card, asked, {"input": None, "encoding_format": None})
        answers = await ask(backend, card, [rest | {field: each} for each in inputs], False)
        if answers[0]["kind"] != "embedding":
            message = (
                f"model = {card.name!r}: it answers with a {answers[0]['kind']}, not with features"
            )
            remedy = f"send this to /v1/predict/{card.name}"
            raise Refusal(422, "wrong_kind", f"{message}; {remedy}", param="model")
        length = sum(map(len, inputs))
        body = {
            "object": "list",
            "model": answers.model,
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _encoded(answer["vector"], asked.encoding_format),
                }
                for index, answer in enumerate(answers)
            ],
            "usage": {"prompt_tokens": length, "total_tokens": length},
        }
        return Response(to_json(body), media_type="application/json")

    _ = embeddings


def _field(card: Card) -> str:
    """Where an input goes: to the only field that must be given, or to a text's, a picture's, a sound's."""
    required = [name for name, each in card.fields.items() if each.required and each.takes in TAKES]
    if len(required) == 1:
        return required[0]
    for takes in TAKES:
        if field := field_for(card, takes, "input"):
            return field
    message = f"input = …: the prompt of {card.full_name} takes no text, picture or sound"
    remedy = f"send its fields to /v1/predict/{card.name}"
    raise Refusal(422, "unsupported_parameter", f"{message}; {remedy}", param="input")


def _encoded(vector: list[float], encoding: str | None) -> Any:
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return vector
