"""What an endpoint answers where it cannot do what it was asked: `Refusal`, and its JSON.

    {"error": {"message": "…", "type": "…", "param": "prompts.0.label", "code": "…"}}

is the shape that clients of OpenAI's API know; a caller that accepts `application/problem+json` gets that
of RFC 9457 instead. The message gives the value, the rule and the remedy;
it never holds a traceback, a path or a class of the inside.
"""

import http
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from genloom.errors import GenloomError, InvalidConfig, Problem, PromptError, UnknownName

INVALID = "invalid_request_error"
SERVER = "server_error"
PROBLEM_TYPE = "application/problem+json"
MAX_PROBLEMS = 20
"""Problems that an answer lists; the rest are counted."""
PLACE = re.compile(r"^prompts\.\d+(\.|: )")
"""Of a prompt in a list, at the beginning of what is told."""
MAX_SHOWN = 80
"""Characters of a wrong value that an answer repeats."""


class ErrorBody(BaseModel, use_attribute_docstrings=True):
    """What went wrong."""

    message: str
    """The value, the rule and the remedy."""
    type: str = Field(examples=[INVALID, "authentication_error", SERVER])
    """Whose mistake it was, in broad classes."""
    param: str | None
    """The first part of the request that is wrong, as in `prompts.0.label`."""
    code: str = Field(examples=["invalid_prompt"])
    """The kind of mistake, for programs."""


class ErrorAnswer(BaseModel):
    """The body of every answer of status 400 and above."""

    error: ErrorBody


class ProblemAnswer(BaseModel, use_attribute_docstrings=True):
    """The same by RFC 9457, for a caller that accepts `application/problem+json`."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """The value, the rule and the remedy."""
    code: str
    """The kind of mistake, for programs."""
    param: str | None
    """The first part of the request that is wrong."""


class Refusal(GenloomError):
    """An answer of status 400 or above.

    Attributes:
        status: The HTTP status.
        body: What the caller is told.
        headers: Headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(message=message, type=kind, param=param, code=code)
        self.headers = headers

    def response(self, accept: str = "") -> JSONResponse:
        """The answer, in the shape that the header `Accept` of the request asks for."""
        headers = dict(self.headers or {})
        if PROBLEM_TYPE in accept.lower():
            problem = ProblemAnswer(
                title=http.HTTPStatus(self.status).phrase,
                status=self.status,
                detail=self.body.message,
                code=self.body.code,
                param=self.body.param,
            )
            return JSONResponse(problem.model_dump(), self.status, headers, media_type=PROBLEM_TYPE)
        return JSONResponse(self.told(), self.status, headers)

    def told(self) -> dict[str, Any]:
        """The body of the answer, in OpenAI's shape."""
        return ErrorAnswer(error=self.body).model_dump()


def from_prompts(error: InvalidConfig | PromptError | Refusal, listed: bool = True) -> Refusal:
    """Prompts that a model cannot answer: 422, naming the first one that is wrong; a refusal stays one.

    Args:
        error: What is wrong.
        listed: Whether the caller sent a list; else no place in one is told, and nothing twice.
    """
    if isinstance(error, Refusal):
        if listed or not PLACE.match(error.body.message):
            return error
        body, message = error.body, PLACE.sub("", error.body.message)
        return Refusal(error.status, body.code, message, kind=body.type, headers=error.headers)
    if isinstance(error, PromptError):
        message = str(error) if listed else PLACE.sub("", str(error))
        return Refusal(422, "invalid_prompt", message, param="prompts" if listed else None)
    problems = error.problems
    if not listed:
        problems = tuple(dict.fromkeys(map(_of_its_own, problems)))
    return Refusal(
        422, "invalid_prompt", told(error.subject, problems), param=problems[0].where or None
    )


def _of_its_own(problem: Problem) -> Problem:
    """A problem of a prompt in a list as that of a prompt alone."""
    place = problem.where.split(".")[:2]
    remedy = problem.remedy.removeprefix("add ").removeprefix(f"{'.'.join(place)}.")
    if remedy != problem.remedy:
        remedy = f"add {remedy}"
    return replace(problem, where=".".join(problem.where.split(".")[2:]), remedy=remedy)


def told(subject: str, problems: Sequence[Problem]) -> str:
    """What is wrong with a request: one thing as a sentence, several as a list."""
    if len(problems) > 1:
        return str(InvalidConfig(subject, problems))
    return str(problems[0]).removeprefix(": ")


def from_name(error: UnknownName) -> Refusal:
    """A model that is not served here: 404."""
    message = str(error) if error.nearest else f"{error}; GET /v1/models lists what is served"
    return Refusal(404, "model_not_found", message, param="model")


def from_status(status: int, detail: str, headers: Mapping[str, str] | None, request: Any) -> Refusal:
    """A path or a method that does not exist, as the framework found out."""
    asked = f"{request.method} {request.url.path}"
    if status == http.HTTPStatus.NOT_FOUND:
        message = f"there is no {asked}: the page /docs lists what there is"
        return Refusal(status, "not_found", message)
    if status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (headers or {}).get("Allow", "another method")
        message = f"{asked} is no such request: this path takes {allowed}; send that"
        return Refusal(status, "method_not_allowed", message, headers=headers)
    code = http.HTTPStatus(status).phrase.lower().replace(" ", "_")
    return Refusal(status, code, detail, headers=headers)


def listed(problems: Sequence[Problem]) -> list[Problem]:
    """Problems as an answer lists them: not too many, and without pages of base64."""
    short = [replace(problem, value=_short(problem.value)) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        rest = f"{len(problems) - MAX_PROBLEMS} more problems are not listed"
        short.append(Problem("prompts", "", rest, "mend these first"))
    return short


def _short(value: str) -> str:
    return value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…"
