"""`/v1/images/generations`, and `edits` and `variations` for models whose prompt holds a picture."""

import asyncio
import base64
import time
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import Field
from pydantic_core import to_json

from genloom_platform.serve import files
from genloom_platform.serve.asking import Backend, ask
from genloom_platform.serve.body import read_fields, read_json
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.errors import Refusal
from genloom_platform.serve.model import Card
from genloom_platform.serve.speaking.answers import ImagesAnswer
from genloom_platform.serve.speaking.request import (
    Several,
    as_model,
    check_query,
    field_for,
    plain_form,
    prompt_of,
    repeated,
    text_fields,
)


class ImagesRequest(Several):
    """What the requests for pictures share."""

    response_format: Literal["b64_json"] | None = None
    """Pictures come in the answer; this endpoint keeps none under a URL."""
    output_format: Literal["png", "webp"] | None = None
    """WebP is without loss. PNG where nothing is said."""
    output_compression: Literal[100] | None = None
    """Both formats are without loss, so there is nothing to choose."""
    size: str | None = Field(default=None, max_length=32)
    """WIDTHxHEIGHT, for a model whose prompt has `width` and `height`, or `size`."""


class GenerationRequest(ImagesRequest):
    """Pictures to make."""

    prompt: str = Field(default="", max_length=1 << 20)
    """The text; for a model that takes none, fields of its prompt as words: `label=3`."""


class EditRequest(ImagesRequest):
    """A picture to change."""

    prompt: str = Field(default="", max_length=1 << 20)
    """As in `/v1/images/generations`."""
    image: Any
    """The picture: a file of the form, or base64."""
    mask: Any = None
    """Where to change it, for a model whose prompt has a field `mask`."""


class VariationRequest(ImagesRequest):
    """A picture to make others of."""

    image: Any
    """The picture: a file of the form, or base64."""


OWN = ("response_format", "output_format", "output_compression")


def add_routes(app: FastAPI, backend: Backend, catalog: Catalog) -> None:
    """Add the routes of this file."""

    @app.post("/v1/images/generations", tags=["openai"], response_model=ImagesAnswer)
    async def generations(request: Request) -> Response:
        """Make pictures."""
        check_query(request)
        asked = as_model(GenerationRequest, await read_json(request))
        card = catalog.making("image", asked.model)
        return await _answer(backend, card, asked, text_fields(card, "prompt", asked.prompt))

    @app.post("/v1/images/edits", tags=["openai"], response_model=ImagesAnswer)
    async def edits(request: Request) -> Response:
        """Change a picture, as by super-resolution, style or inpainting."""
        check_query(request)
        asked = as_model(EditRequest, plain_form(await read_fields(request), EditRequest))
        card = catalog.making("image", asked.model)
        fields = _picture(card, asked.image) | text_fields(card, "prompt", asked.prompt)
        return await _answer(backend, card, asked, fields)

    @app.post("/v1/images/variations", tags=["openai"], response_model=ImagesAnswer)
    async def variations(request: Request) -> Response:
        """Make others of a picture."""
        check_query(request)
        asked = as_model(VariationRequest, plain_form(await read_fields(request), VariationRequest))
        card = catalog.making("image", asked.model)
        return await _answer(backend, card, asked, _picture(card, asked.image))

    _ = generations, edits, variations


def _picture(card: Card, image: Any) -> dict[str, Any]:
    field = "image" if "image" in card.fields else field_for(card, "image", "image")
    if field is None:
        message = f"image = …: the prompt of {card.full_name} takes no picture"
        remedy = "send this to /v1/images/generations, or name another model"
        raise Refusal(422, "unsupported_parameter", f"{message}; {remedy}", param="image")
    if isinstance(image, list):
        message = (
            "image = a list: a request takes one picture; send the others in requests of their own"
        )
        raise Refusal(422, "invalid_request", message, param="image")
    return {field: image}


async def _answer(
    backend: Backend, card: Card, asked: ImagesRequest, fields: dict[str, Any]
) -> Response:
    """Ask for the pictures, and answer with them."""
    own: dict[str, Any] = dict.fromkeys((*OWN, "prompt", "image"))
    form = files.named(asked.output_format or "png", card, "output_format")
    prompt = prompt_of(card, asked, own) | fields
    answers = await ask(backend, card, repeated(prompt, asked.seed, asked.n), False)
    written = await asyncio.to_thread(lambda: [files.written(made["sample"], form) for made in answers])
    data = [
        {"b64_json": base64.b64encode(file).decode("ascii"), "seed": made["seed"]}
        for file, made in zip(written, answers, strict=True)
    ]
    body = {
        "created": int(time.time()),
        "model": answers.model,
        "output_format": asked.output_format or "png",
        "data": data,
    }
    return Response(to_json(body), media_type="application/json")
