"""`/v1/audio/speech`: a text as sound, by models that make sound."""

import asyncio
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import Field

from genloom_platform.serve import files
from genloom_platform.serve.asking import Backend, ask
from genloom_platform.serve.body import read_json
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.speaking.request import Asked, as_model, check_query, prompt_of, text_fields


class SpeechRequest(Asked):
    """A text to say."""

    input: str = Field(max_length=1 << 20)
    """The text; for a model that takes none, fields of its prompt as words: `pitch=60`."""
    voice: Any = None
    """For a model whose prompt has a field `voice`; others take `default`."""
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm", "ogg"] | None = None
    """`mp3` where nothing is said. `ogg` holds Vorbis, `pcm` is 16 bits at 24 kHz; AAC is not made."""
    speed: float | None = None
    """For a model whose prompt has a field `speed`; others take 1."""


def add_routes(app: FastAPI, backend: Backend, catalog: Catalog) -> None:
    """Add the route of this file."""

    @app.post("/v1/audio/speech", tags=["openai"])
    async def speech(request: Request) -> Response:
        """Say a text. The answer's headers name the model's version and the seed."""
        check_query(request)
        asked = as_model(SpeechRequest, await read_json(request))
        card = catalog.making("audio", asked.model)
        form = files.named(asked.response_format or "mp3", card, "response_format")
        own = {"input": text_fields(card, "input", asked.input), "response_format": None}
        answers = await ask(backend, card, [prompt_of(card, asked, own)], False)
        data = await asyncio.to_thread(files.written, answers[0]["sample"], form)
        return files.response(data, form, answers.model, answers[0]["seed"])

    _ = speech
