"""What stands before the routes: the key, the host, how many requests at once, and the last resort.

It sees a request's headers only, so a stranger is sent away before the body is read.
"""

import logging
import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.keys import VARIABLE, Doorkeeper, is_loopback

OPEN_PATHS = frozenset({"/healthz", "/docs", "/openapi.json"})
"""What needs no key. Whatever is not listed does, so that a new route is closed until it is."""
MAX_REQUESTS = 256
"""Requests at once; each may hold a body in memory."""

log = logging.getLogger("genloom.serve")


class Guard:
    """ASGI middleware that turns requests away, and failures into answers."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper | None) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._running += 1
        try:
            await self._check(scope)
            await self._app(scope, receive, watched)
        except Exception as error:
            if started:
                raise
            refusal = error if isinstance(error, Refusal) else _failure(scope, error)
            await refusal.response()(scope, receive, send)
        finally:
            self._running -= 1

    async def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        if self._doorkeeper is None:
            check_host(headers.get("host", b"").decode("latin-1"))
        if scope["path"] in OPEN_PATHS:
            return
        if self._doorkeeper is not None:
            await _check_key(headers.get("authorization", b""), self._doorkeeper)
        if self._running > MAX_REQUESTS:
            raise Refusal(
                503,
                "overloaded",
                f"{MAX_REQUESTS} requests are being answered already, and no more are taken at once; "
                f"ask again in a second",
                kind=SERVER,
                headers={"Retry-After": "1"},
            )


async def _check_key(authorization: bytes, doorkeeper: Doorkeeper) -> None:
    """Raise Refusal where a request shows no key, or a wrong one."""
    scheme, _, key = authorization.partition(b" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    remedy = f"send the header Authorization: Bearer KEY, KEY being the endpoint's {VARIABLE}"
    if scheme.lower() != b"bearer" or not key.strip():
        message = f"no key was sent, and this endpoint asks for one; {remedy}"
        raise Refusal(401, "missing_api_key", message, kind="authentication_error", headers=challenge)
    if not await doorkeeper.admits(key.strip()):
        message = f"the key that was sent is not this endpoint's; {remedy}"
        raise Refusal(401, "wrong_api_key", message, kind="authentication_error", headers=challenge)


def check_host(host: str) -> None:
    """Raise Refusal where an open endpoint is asked for by a name that is not this machine's own.

    A web page in a browser on this machine could else reach it, by a name of its own that it lets
    point to 127.0.0.1 (DNS rebinding).
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = host
    if host and not is_loopback(name):
        raise Refusal(
            403,
            "host_not_allowed",
            f"Host = {host[:80]}: without a key this endpoint answers to localhost and 127.0.0.1 only; "
            f"use these, or start it with {VARIABLE} set",
        )


def _failure(scope: MutableMapping[str, Any], error: Exception) -> Refusal:
    """An answer that says where to read on, and nothing of the inside."""
    number = secrets.token_hex(4)
    log.error("failure %s: %s %s", number, scope["method"], scope["path"], exc_info=error)
    return Refusal(
        500,
        "internal_error",
        f"the endpoint failed on this request; its log tells why, under failure {number}",
        kind=SERVER,
    )


__all__ = ["MAX_REQUESTS", "OPEN_PATHS", "Guard"]
