"""The routes of an endpoint, as a FastAPI app over a `Backend`. Read this file first.

    GET  /                        a page with a form for each model: see `playground/`
    GET  /healthz                 whether it answers; no key needed
    GET  /v1/models               what is served here; /v1/models/{id}: one of them
    POST /v1/generate/{model}     a prompt to a sample: as JSON, as a file, or in pieces
    POST /v1/predict/{model}      a prompt to a prediction
    POST /v1/generate             many prompts at once; the body names the model
    POST /v1/predict              the same for predictions
    POST /v1/completions …        what clients of OpenAI's API speak: see `speaking/`
    GET  /v1/jobs …               requests that are answered later (?async=true): see `jobs/`
    GET  /docs                    the same in the browser, with the schema of each model's prompt

A request goes through `guard.py` (key, host), this file (body, model), `replica.py` (batches) and
`model.py` (prompts, network, answer). `launch.py` starts it all.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from genloom_platform.serve import docs, files, openapi
from genloom_platform.serve.answers import GenerateAnswer, Health, ModelEntry, ModelList, PredictAnswer
from genloom_platform.serve.asking import MAX_PROMPTS, Backend, Begun, ask, begin
from genloom_platform.serve.body import Bodies, read_fields, read_json
from genloom_platform.serve.callers import Callers
from genloom_platform.serve.catalog import ROUTES, Catalog, Kind
from genloom_platform.serve.errors import Refusal, from_status
from genloom_platform.serve.events import EventStream
from genloom_platform.serve.guard import KUBERAY_PATH, Guard
from genloom_platform.serve.jobs import routes as job_routes
from genloom_platform.serve.jobs.desk import Desk
from genloom_platform.serve.jobs.runner import Runner
from genloom_platform.serve.keyring import Ring
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.model import Card
from genloom_platform.serve.playground import wall as playground
from genloom_platform.serve.playground.page import Maker
from genloom_platform.serve.seen import HEADER, Counted, Seen
from genloom_platform.serve.speaking import add_routes
from genloom_platform.serve.speaking.request import as_model, from_form

KEYS: dict[Kind, str] = {"generator": "samples", "predictor": "predictions"}


class Body(BaseModel):
    """The body of a request for many prompts; the model checks the prompts themselves."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    prompts: list[Any]


def create_app(
    backend: Backend,
    lock: Lock | None = None,
    ring: Ring | None = None,
    desk: Desk | None = None,
    *,
    origins: Sequence[str] = (),
    meters: Counted | None = None,
) -> FastAPI:
    """The app.

    Args:
        backend: What answers.
        lock: What a caller's key is compared with.
        ring: The store's keys. Where there is neither this nor a lock, no key is asked for.
        desk: Where jobs are taken; None where there is no store to keep them.
        origins: Pages in browsers that may ask, as in `https://app.acme.example`, or `*`.
        meters: What counts requests.
    """
    app = FastAPI(
        title="Genloom",
        version=version("genloom-platform"),
        description="Ask trained models for samples and predictions.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=(lambda _: Runner(desk).running()) if desk else None,
    )
    catalog = Catalog(backend.models)
    locked = lock is not None or ring is not None
    app.add_middleware(Bodies)
    callers = Callers(lock, ring) if locked else None
    app.add_middleware(Guard, callers=callers)
    playground.install(app, Maker(backend, catalog), callers)
    if origins:
        methods = ["GET", "POST", "DELETE"]
        shown = [HEADER, "Retry-After", "Location", files.MODEL_HEADER, files.SEED_HEADER]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=["*"],
            expose_headers=shown,
        )
    app.add_middleware(Seen, meters=meters)
    app.add_exception_handler(HTTPException, _http_error)
    _add_routes(app, backend, catalog, desk)
    docs.add_page(app)
    if desk:
        job_routes.add_routes(app, desk)
    add_routes(app, backend, catalog)
    described: list[tuple[Any, dict[str, Any]]] = []

    def describe() -> dict[str, Any]:
        cards = catalog.cards
        if not described or described[0][0] != cards:
            made = openapi.describe(app, catalog, MAX_PROMPTS, locked=locked)
            if desk:
                job_routes.describe(made, list(ROUTES.values()))
            described[:] = [(cards, made)]
        return described[0][1]

    app.openapi = describe
    return app


def _add_routes(app: FastAPI, backend: Backend, catalog: Catalog, desk: Desk | None) -> None:
    @app.get("/healthz", tags=["endpoint"])
    async def healthz() -> Health:
        """Whether the endpoint answers."""
        return Health()

    @app.get(KUBERAY_PATH, include_in_schema=False)
    async def kuberay() -> Response:
        return PlainTextResponse("success")

    @app.get("/v1/models", tags=["models"])
    async def models() -> ModelList:
        """What is served here."""
        return catalog.listing()

    @app.get("/v1/models/{model}", tags=["models"])
    async def model(model: str) -> ModelEntry:
        """One of the served models."""
        return catalog.entry(model)

    @app.post("/v1/generate", tags=["models"], response_model=GenerateAnswer)
    async def generate(request: Request) -> Response:
        """One sample for each prompt. The same seed gives the same sample."""
        body = as_model(Body, await read_json(request))
        return await _answer(
            request, backend, catalog.find("generator", body.model), body.prompts, desk
        )

    @app.post("/v1/predict", tags=["models"], response_model=PredictAnswer)
    async def predict(request: Request) -> Response:
        """One prediction for each prompt."""
        body = as_model(Body, await read_json(request))
        return await _answer(
            request, backend, catalog.find("predictor", body.model), body.prompts, desk
        )

    @app.post("/v1/generate/{model}", tags=["models"], response_model=GenerateAnswer)
    async def generate_one(request: Request, model: str) -> Response:
        """One sample of one prompt. The same seed gives the same sample."""
        card = catalog.find("generator", model)
        prompt = from_form(card, await read_fields(request))
        return await _answer(request, backend, card, [prompt], desk, listed=False)

    @app.post("/v1/predict/{model}", tags=["models"], response_model=PredictAnswer)
    async def predict_one(request: Request, model: str) -> Response:
        """One prediction of one prompt."""
        card = catalog.find("predictor", model)
        prompt = from_form(card, await read_fields(request))
        return await _answer(request, backend, card, [prompt], desk, listed=False)

    _ = healthz, kuberay, models, model, generate, predict, generate_one, predict_one


async def _answer(
    request: Request,
    backend: Backend,
    card: Card,
    prompts: list[Any],
    desk: Desk | None,
    listed: bool = True,
) -> Response:
    """Ask a model, and answer with JSON, with a file, with pieces as they are made, or with a job."""
    if desk and job_routes.wanted(request):
        return await job_routes.accept(request, desk, card, prompts, listed)
    stream, form = _wishes(request, card)
    if (stream or form) and len(prompts) != 1:
        message = (
            f"prompts = a list of {len(prompts)}: a file and a stream hold one sample; send one prompt"
        )
        raise Refusal(422, "invalid_request", message, param="prompts")
    if stream:
        begun = await begin(backend, card, prompts[0], listed)
        return EventStream(_streamed(begun), begun)
    answers = await ask(backend, card, prompts, listed)
    if form:
        data = await asyncio.to_thread(files.written, answers[0]["sample"], form)
        return files.response(data, form, answers.model, answers[0]["seed"])
    content = to_json({"model": answers.model, KEYS[card.kind]: answers}, inf_nan_mode="null")
    return Response(content, media_type="application/json")


async def _streamed(begun: Begun) -> AsyncGenerator[dict[str, Any]]:
    yield {"model": begun.model, "seed": begun.seed, "prompt": begun.prompt}
    async for piece in begun.pieces():
        yield {"piece": piece}


def _wishes(request: Request, card: Card) -> tuple[bool, files.Format | None]:
    """Whether pieces are asked for, or a file: by the query's `stream` and `format`, or by `Accept`."""
    query = dict(request.query_params)
    if query.get("async") == "false":  # which is as if it were not there
        del query["async"]
    stream, form = query.pop("stream", "false"), query.pop("format", "json")
    if query:
        name = next(iter(query))[:40]
        message = f"{name} = …: the query of this path takes stream and format; leave it out"
        raise Refusal(422, "unknown_parameter", message, param=name)
    if stream not in ("true", "false"):
        message = f"stream = {stream[:40]!r}: it is true or false; give one of them"
        raise Refusal(422, "invalid_request", message, param="stream")
    if card.kind == "predictor":
        if stream == "true" or form != "json":
            message = (
                f"{card.full_name} predicts, and predictions are JSON; leave out stream and format"
            )
            raise Refusal(422, "invalid_format", message, param="format")
        return False, None
    if form != "json":
        chosen = files.named(form, card, "format")
    else:
        accept = "" if "format" in request.query_params else request.headers.get("accept", "")
        chosen = files.accepted(accept, card)
    if stream == "true" and "format" in request.query_params and chosen:
        message = f"format = {form!r}: a stream sends its pieces as JSON; leave out one of the two"
        raise Refusal(422, "invalid_format", message, param="format")
    return stream == "true", chosen


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    refusal = from_status(error.status_code, str(error.detail), error.headers, request)
    return refusal.response(request.headers.get("accept", ""))
