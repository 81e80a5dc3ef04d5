"""A request's body, as JSON or as a form with files, refused as soon as it is too large, too slow or else.

A form (multipart/form-data) becomes what the same request is in JSON: each file an object with base64
data, each other part a text, which `speaking/` and `app.py` read by the field that it is for.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Request
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genloom_platform.serve.errors import SERVER, Refusal

MAX_BODY_BYTES = 32 << 20
MAX_HELD_BYTES = 512 << 20
MAX_VALUES = 500_000
"""Values in the JSON of a body: as Python's objects, the smallest take thirty times the room of their text."""
TIMEOUT_S = 60
"""How long a body may take to arrive."""
MAX_PARTS = 300
"""Parts of a form."""
JSON, FORM = "application/json", "multipart/form-data"


class Bodies:
    """ASGI middleware: the bodies of all requests that are under way are bounded together.

    So the memory of the process is, whatever many callers send at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, and count what comes of it."""
        mine_bytes = 0

        async def counted() -> Message:
            nonlocal mine_bytes
            message = await receive()
            size_bytes = len(message.get("body", b""))
            if size_bytes and self._held_bytes + size_bytes > MAX_HELD_BYTES:
                limit = MAX_HELD_BYTES >> 20
                rule = (
                    f"the requests under way hold {limit} MiB together, the most that is taken at once"
                )
                headers = {"Retry-After": "1"}
                raise Refusal(
                    503, "overloaded", f"{rule}; ask again in a second", kind=SERVER, headers=headers
                )
            mine_bytes += size_bytes
            self._held_bytes += size_bytes
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held_bytes -= mine_bytes


class FormText(str):
    """A part of a form that is no file: what it means depends on the field that it is for."""

    def value(self) -> Any:
        """It as JSON, where it is a number, a truth value, a list or an object; else the text.

        Raises:
            Refusal: It holds too many values.
        """
        _check_values(self.encode())
        try:
            return from_json(self, allow_inf_nan=False)
        except ValueError:
            return str(self)


@dataclass(frozen=True)
class _InMemory:
    """Parts of a form stay in memory: the body is bounded, and a disk would only be slower."""

    headers: Any
    body: bytes

    async def parse(self) -> dict[str, Any]:
        parser = MultiPartParser(
            self.headers,
            _once(self.body),
            max_files=MAX_PARTS,
            max_fields=MAX_PARTS,
            max_part_size=MAX_BODY_BYTES,
        )
        parser.spool_max_size = MAX_BODY_BYTES
        parts = await parser.parse()
        found: dict[str, Any] = {}
        for name, part in parts.multi_items():
            name, listed = name.removesuffix("[]"), name.endswith("[]")
            if isinstance(part, UploadFile):
                value: Any = {"data": base64.b64encode(await part.read()).decode("ascii")}
            else:
                value = FormText(part)
            if name in found or (listed and not isinstance(part, UploadFile)):
                before = found.get(name, [])
                value = [*(cast(list[Any], before) if isinstance(before, list) else [before]), value]
            found[name] = value
        return found


async def read_json(request: Request) -> Any:
    """The JSON value that a request holds.

    Raises:
        Refusal: 415, 413, 408 or 400, in the order in which they can be known.
    """
    _check_type(request, JSON)
    return _json(await _read(request))


async def read_fields(request: Request) -> dict[str, Any]:
    """The object that a request holds, as JSON or as a form.

    Raises:
        Refusal: 415, 413, 408, 400 or 422, in the order in which they can be known.
    """
    if _check_type(request, JSON, FORM) == FORM:
        body = await _read(request)
        try:
            return await _InMemory(request.headers, body).parse()
        except (MultiPartException, ValueError, LookupError) as error:
            reason = getattr(error, "message", None) or str(error)
            message = f"the body is no valid multipart form: {reason.rstrip('.')}; mend it"
            raise Refusal(400, "invalid_form", message) from None
    return as_object(_json(await _read(request)))


def as_object(value: Any) -> dict[str, Any]:
    """A body that must be an object.

    Raises:
        Refusal: It is another value.
    """
    if not isinstance(value, dict):
        message = "the body must be an object, that is, a dictionary with named fields; put it in {}"
        raise Refusal(422, "invalid_request", message)
    return cast(dict[str, Any], value)


def _check_type(request: Request, *types: str) -> str:
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind not in types:
        # A page in a browser can send other types to any address without asking it first.
        known = " or ".join(types)
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Type = {given[:80]!r}: this path takes {known}; send Content-Type: {types[0]}",
        )
    return kind


async def _read(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _collect(request)
    except TimeoutError:
        message = f"the body did not arrive within {TIMEOUT_S} s; send it again, in smaller requests"
        raise Refusal(408, "request_timeout", message) from None


async def _collect(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _json(body: bytes) -> Any:
    _check_values(body)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        message = f"the body is no valid JSON: {error}; mend it there"
        raise Refusal(400, "invalid_json", message) from None


def _check_values(body: bytes) -> None:
    """Raise Refusal where a JSON text holds too many values: each but the first has a comma before it."""
    if body.count(b",") < MAX_VALUES:
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Outside of texts, in which commas mean nothing. So many texts are too many values themselves.
    parts = unescaped.split(b'"', 4 * MAX_VALUES)
    if len(parts) > 4 * MAX_VALUES or sum(part.count(b",") for part in parts[::2]) >= MAX_VALUES:
        message = (
            f"the body holds over {MAX_VALUES:,} values; send fewer prompts in it, or shorter lists"
        )
        raise Refusal(413, "body_too_large", message)


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    yield body
    yield b""


def _too_large() -> Refusal:
    limit = MAX_BODY_BYTES >> 20
    message = (
        f"the body is over {limit} MiB, the most that a request may hold; send fewer prompts in it"
    )
    return Refusal(413, "body_too_large", message)
