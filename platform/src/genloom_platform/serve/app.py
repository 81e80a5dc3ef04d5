"""The routes of an endpoint, as a FastAPI app over a `Backend`. Read this file first.

    GET  /               a page with a form for each model: see `playground/`
    GET  /healthz        whether it answers; no key needed
    GET  /v1/models      what is served here
    POST /v1/generate    prompts to samples
    POST /v1/predict     prompts to predictions
    GET  /docs           the same in the browser, with the schema of each model's prompt

A request goes through `guard.py` (key, host), this file (body, model), `replica.py` (batches) and
`model.py` (prompts, network, answer). `launch.py` starts it all.
"""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from genloom.errors import InvalidConfig, PromptError
from genloom.problems import problems_of
from genloom_platform.serve import openapi
from genloom_platform.serve.answers import GenerateAnswer, Health, ModelList, PredictAnswer
from genloom_platform.serve.body import read_json
from genloom_platform.serve.catalog import Catalog, Kind
from genloom_platform.serve.errors import (
    SERVER,
    ErrorAnswer,
    Refusal,
    from_prompts,
    from_status,
    listed,
)
from genloom_platform.serve.guard import Guard
from genloom_platform.serve.keys import Doorkeeper, Lock
from genloom_platform.serve.model import Card
from genloom_platform.serve.playground import wall as playground
from genloom_platform.serve.playground.page import Maker
from genloom_platform.serve.playground.sessions import OneKey

MAX_PROMPTS = 256
"""Prompts in a request."""
ANSWER_TIMEOUT_S = 300
"""How long a model may take over a request, waiting included."""


class Backend(Protocol):
    """What answers: models in processes of their own (`replica.py`)."""

    def models(self) -> Sequence[Card]:
        """What is served."""
        ...

    async def answer(self, model: str, prompts: Sequence[Any]) -> list[Any]:
        """One answer for each prompt, both as JSON.

        Args:
            model: A card's full name.
            prompts: As they came, unchecked.

        Raises:
            InvalidConfig: Prompts are wrong.
            PromptError: The model cannot take one of them.
            Refusal: There is no answer for another reason.
        """
        ...


class Body(BaseModel):
    """The body of a request; the model checks the prompts themselves."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    prompts: list[Any]


def create_app(backend: Backend, lock: Lock | None = None) -> FastAPI:
    """The app.

    Args:
        backend: What answers.
        lock: What a caller's key is compared with; None where no key is asked for.
    """
    app = FastAPI(
        title="Genloom",
        version=version("genloom-platform"),
        description="Ask trained models for samples and predictions.",
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": ErrorAnswer, "description": "Any error"}},
    )
    catalog = Catalog(backend.models())
    app.add_middleware(Guard, doorkeeper=Doorkeeper(lock) if lock else None)
    playground.install(app, Maker(backend, catalog), OneKey(Doorkeeper(lock)) if lock else None)
    app.add_exception_handler(HTTPException, _http_error)
    _add_routes(app, backend, catalog)
    description: dict[str, Any] = {}

    def describe() -> dict[str, Any]:
        if not description:
            description.update(openapi.describe(app, catalog, MAX_PROMPTS, locked=lock is not None))
        return description

    app.openapi = describe
    return app


def _add_routes(app: FastAPI, backend: Backend, catalog: Catalog) -> None:
    @app.get("/healthz", tags=["endpoint"])
    async def healthz() -> Health:
        """Whether the endpoint answers."""
        return Health()

    @app.get("/v1/models", tags=["models"])
    async def models() -> ModelList:
        """What is served here."""
        return catalog.listing()

    @app.post("/v1/generate", tags=["models"], response_model=GenerateAnswer)
    async def generate(request: Request) -> Response:
        """One sample for each prompt. The same seed gives the same sample."""
        return await _answer(request, backend, catalog, "generator", "samples")

    @app.post("/v1/predict", tags=["models"], response_model=PredictAnswer)
    async def predict(request: Request) -> Response:
        """One prediction for each prompt."""
        return await _answer(request, backend, catalog, "predictor", "predictions")

    _ = healthz, models, generate, predict


async def _answer(
    request: Request, backend: Backend, catalog: Catalog, kind: Kind, key: str
) -> Response:
    """Read a request, ask the model that it means, and answer."""
    body = _body(await read_json(request))
    card = catalog.find(kind, body.model)
    if not 1 <= len(body.prompts) <= MAX_PROMPTS:
        message = f"prompts = a list of {len(body.prompts)}: a request takes 1 to {MAX_PROMPTS}"
        remedy = "send them in several requests" if body.prompts else "add one"
        raise Refusal(422, "invalid_request", f"{message}; {remedy}", param="prompts")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answers = await backend.answer(card.full_name, body.prompts)
    except (InvalidConfig, PromptError) as error:
        raise from_prompts(error) from None
    except TimeoutError:
        message = f"{card.full_name} gave no answer in {ANSWER_TIMEOUT_S} s; ask for less at once"
        raise Refusal(504, "answer_timeout", message, kind=SERVER) from None
    content = to_json({"model": card.full_name, key: answers}, inf_nan_mode="null")
    return Response(content, media_type="application/json")


def _body(value: Any) -> Body:
    try:
        return Body.model_validate(value)
    except ValidationError as error:
        problems = listed(problems_of(error, Body))
        raise Refusal(
            422,
            "invalid_request",
            str(InvalidConfig("the request", problems)),
            param=problems[0].where or None,
        ) from None


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    return from_status(error.status_code, str(error.detail), error.headers, request).response()
