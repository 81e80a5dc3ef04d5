"""A request's body as JSON, refused as soon as it is too large, too slow or of another type."""

import asyncio
from typing import Any

from fastapi import Request
from pydantic_core import from_json

from genloom_platform.serve.errors import Refusal

MAX_BODY_BYTES = 32 << 20
TIMEOUT_S = 60
"""How long a body may take to arrive."""


async def read_json(request: Request) -> Any:
    """The JSON value that a request holds.

    Raises:
        Refusal: 415, 413, 408 or 400, in the order in which they can be known.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        # A page in a browser can send other types to any address without asking it first.
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Type = {given[:80]!r}: this path takes JSON; send Content-Type: application/json",
        )
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            body = await _collect(request)
    except TimeoutError:
        message = f"the body did not arrive within {TIMEOUT_S} s; send it again, in smaller requests"
        raise Refusal(408, "request_timeout", message) from None
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        message = f"the body is no valid JSON: {error}; mend it there"
        raise Refusal(400, "invalid_json", message) from None


async def _collect(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> Refusal:
    limit = MAX_BODY_BYTES >> 20
    message = (
        f"the body is over {limit} MiB, the most that a request may hold; send fewer prompts in it"
    )
    return Refusal(413, "body_too_large", message)
