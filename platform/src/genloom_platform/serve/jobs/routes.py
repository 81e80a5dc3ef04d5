"""Jobs by HTTP.

POST   /v1/generate?async=true     202 and a job; also /v1/generate/{model}, /v1/predict and its own
GET    /v1/jobs                    the caller's jobs, the newest first
GET    /v1/jobs/{id}               one of them
GET    /v1/jobs/{id}/result        what the request would have been answered directly
DELETE /v1/jobs/{id}               cancel it; of one that has ended, remove what it made
"""

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import to_json

from genloom.errors import StoreError
from genloom_platform.serve.answers import Answer, GenerateAnswer, PredictAnswer
from genloom_platform.serve.errors import SERVER, ErrorBody, Refusal
from genloom_platform.serve.jobs.desk import Desk, State, Status
from genloom_platform.serve.model import Card
from genloom_platform.serve.seen import notes_of

PATH = "/v1/jobs"
MAX_PAGE, PAGE = 100, 20
HEADER = "Idempotency-Key"
AWAY_S = 10
"""When to ask again where the store is away."""
KEYS = {"generator": "samples", "predictor": "predictions"}

log = logging.getLogger("genloom.serve")


class JobAnswer(Answer):
    """A job as it is now."""

    id: str
    object: Literal["job"] = "job"
    status: Status
    model: str
    """Name and version of what answers."""
    created: int
    """Unix time, as all times here."""
    ended: int | None
    expires: int
    """When it, or what it made, is removed."""
    total: int
    """Prompts."""
    done: int
    """Prompts that are answered."""
    result: str | None
    """The path of the answers, once there are all."""
    error: ErrorBody | None
    """Why it failed: what a direct request would have been told."""


class JobList(Answer):
    """Jobs of a caller, the newest first."""

    object: Literal["list"] = "list"
    data: list[JobAnswer]
    has_more: bool
    """Whether there are older ones: ask for those after the last one's id."""


def wanted(request: Request) -> bool:
    """Whether a request is to be answered later.

    Raises:
        Refusal: Its query says neither yes nor no, or asks for what a job has not.
    """
    given = request.query_params.get("async", "false")
    if given not in ("true", "false"):
        message = f"async = {given[:40]!r}: it is true or false; give one of them"
        raise Refusal(422, "invalid_request", message, param="async")
    others = [name for name in request.query_params if name != "async"]
    if given == "true" and others:
        name = others[0][:40]
        message = f"{name} = …: what a job makes is JSON, all at once; leave {name} out, or async"
        raise Refusal(422, "invalid_request", message, param=name)
    return given == "true"


async def accept(
    request: Request, desk: Desk, card: Card, prompts: Sequence[Any], listed: bool
) -> Response:
    """Take a request as a job; for `listed` see `asking.ask`."""
    key = request.headers.get(HEADER)
    with _told_where_away():
        state = await desk.accept(caller_of(request), card, prompts, key, listed)
    told = _told(desk, state)
    return JSONResponse(told.model_dump(), 202, {"Location": f"{PATH}/{told.id}"})


def caller_of(request: Request) -> str:
    """The name of the key that a request was sent with, as the guard noted it; empty where none is asked for."""
    return notes_of(request.scope).key or ""


def add_routes(app: FastAPI, desk: Desk) -> None:
    """The routes of an endpoint that keeps jobs."""

    @app.get(PATH, tags=["jobs"], openapi_extra={"parameters": _PAGE_PARAMETERS})
    async def list_jobs(request: Request) -> JobList:
        """Your jobs, the newest first."""
        limit, after = _page(request)
        with _told_where_away():
            shown, more = await desk.page(caller_of(request), limit, after)
        return JobList(data=[_told(desk, state) for state in shown], has_more=more)

    @app.get(PATH + "/{id}", tags=["jobs"])
    async def job(request: Request, id: str) -> JobAnswer:
        """One of your jobs as it is now."""
        with _told_where_away():
            return _told(desk, await desk.find(caller_of(request), id))

    @app.get(PATH + "/{id}/result", tags=["jobs"], response_model=GenerateAnswer | PredictAnswer)
    async def result(request: Request, id: str) -> Response:
        """What the request would have been answered directly."""
        with _told_where_away():
            state = await desk.find(caller_of(request), id)
            answers = await desk.result(state)
        model = (state.end.model if state.end else None) or state.job.model
        content = {"model": model, KEYS[state.job.kind]: answers}
        return Response(to_json(content, inf_nan_mode="null"), media_type="application/json")

    @app.delete(PATH + "/{id}", tags=["jobs"])
    async def cancel(request: Request, id: str) -> JobAnswer:
        """Cancel a job; of one that has ended, remove what it made."""
        with _told_where_away():
            return _told(desk, await desk.cancel(await desk.find(caller_of(request), id)))

    _ = list_jobs, job, result, cancel


def describe(schema: dict[str, Any], routes: Sequence[str]) -> None:
    """Add to an endpoint's OpenAPI description that some of its paths take jobs, and what jobs are answered."""
    reference = {"$ref": f"#/components/schemas/{JobAnswer.__name__}"}
    content = {"application/json": {"schema": reference}}
    for path, methods in schema["paths"].items():
        if path.startswith(PATH):
            for operation in methods.values():
                errors: dict[str, Any] = operation["responses"]["404"]
                operation["responses"] |= {
                    "404": errors | {"description": "You have no such job."},
                    "409": errors | {"description": "The job has no result yet, or was cancelled."},
                    "410": errors | {"description": "The job has expired, with what it made."},
                    "422": errors | {"description": "The query is wrong."},
                    "504": errors | {"description": "The model gave no answer in time."},
                }
        elif any(path == route or path.startswith(f"{route}/") for route in routes):
            post = methods["post"]
            post["parameters"] = [*post.get("parameters", []), *_JOB_PARAMETERS]
            post["responses"]["202"] = {
                "description": "The job that was made of it.",
                "content": content,
            }


@contextmanager
def _told_where_away() -> Generator[None]:
    try:
        yield
    except StoreError as error:
        log.warning("a request for a job is refused: %s", error)
        message = f"the store that keeps jobs does not answer; ask again in {AWAY_S} s"
        headers = {"Retry-After": str(AWAY_S)}
        raise Refusal(503, "store_away", message, kind=SERVER, headers=headers) from None


def _told(desk: Desk, state: State) -> JobAnswer:
    job, end = state.job, state.end
    since = end.at if end else job.created
    return JobAnswer(
        id=job.id,
        status=state.status,
        model=job.model,
        created=int(job.created),
        ended=int(end.at) if end else None,
        expires=int(since + desk.settings.kept_s),
        total=job.total,
        done=state.done,
        result=f"{PATH}/{job.id}/result" if state.status == "succeeded" else None,
        error=end.error if end else None,
    )


def _page(request: Request) -> tuple[int, str | None]:
    query = dict(request.query_params)
    limit, after = query.pop("limit", str(PAGE)), query.pop("after", None)
    if query:
        name = next(iter(query))[:40]
        message = f"{name} = …: the query of this path takes limit and after; leave it out"
        raise Refusal(422, "unknown_parameter", message, param=name)
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_PAGE):
        message = f"limit = {limit[:40]!r}: a page holds 1 to {MAX_PAGE} jobs; give such a number"
        raise Refusal(422, "invalid_request", message, param="limit")
    return int(limit), after


_PAGE_PARAMETERS = [
    {
        "name": "limit",
        "in": "query",
        "description": "Jobs of a page.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    },
    {
        "name": "after",
        "in": "query",
        "description": "The id of the job that the page begins after.",
        "schema": {"type": "string"},
    },
]
_JOB_PARAMETERS = [
    {
        "name": "async",
        "in": "query",
        "description": "Answer later: at once there is only a job, which GET /v1/jobs/{id} tells of.",
        "schema": {"enum": ["true", "false"], "default": "false", "type": "string"},
    },
    {
        "name": HEADER,
        "in": "header",
        "description": "With async: the same key gives the same job, however often the request is sent.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
]
