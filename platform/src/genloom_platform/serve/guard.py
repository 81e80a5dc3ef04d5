"""What stands before the routes: the key and its limits, the host, how many requests at once, the last resort.

It sees a request's headers only, so a stranger is sent away before the body is read.
"""

import logging
import secrets
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genloom_platform.serve import docs
from genloom_platform.serve.callers import Caller, Callers
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.keys import VARIABLE, is_loopback
from genloom_platform.serve.seen import NO_ROUTE, notes_of, place_of

KUBERAY_PATH = "/-/healthz"
"""What KubeRay asks the head for, as it would Ray Serve's proxy."""
OPEN_PATHS = frozenset({"/healthz", KUBERAY_PATH})
"""What needs no key. Whatever is not listed does, so that a new route is closed until it is."""
READ_PATHS = frozenset({"/openapi.json"}) | docs.PATHS
"""What a visitor who has signed in at the page may read in the browser, which sends no key."""
SIGNED_IN = "genloom.signed_in"
"""Set in the scope of a request to one of `READ_PATHS` by such a visitor."""
MAX_REQUESTS = 256
"""Requests that are answered at once."""
MAX_OPEN = 1024
"""Requests at once, those included whose bodies are still arriving, slowly or not: these keep nobody out."""

log = logging.getLogger("genloom.serve")


class Guard:
    """ASGI middleware that turns requests away, and failures into answers."""

    def __init__(self, app: ASGIApp, callers: Callers | None) -> None:
        self._app = app
        self._callers = callers
        self._open = self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = arrived = False

        async def received() -> Message:
            nonlocal arrived
            message = await receive()
            if not arrived and message["type"] == "http.request" and not message.get("more_body"):
                if self._running >= MAX_REQUESTS:
                    raise _overloaded(MAX_REQUESTS)
                arrived = True
                self._running += 1
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._open += 1
        try:
            with ExitStack() as asking:  # left with the last byte, or when the caller goes away
                if place := await self._check(scope):
                    asking.enter_context(place)
                await self._app(scope, received, watched)
        except Exception as error:
            refusal = error if isinstance(error, Refusal) else _failure(scope, error)
            notes_of(scope).refused = refusal.body.code
            if started:
                raise
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            await refusal.response(accept)(scope, receive, send)
        finally:
            self._open -= 1
            self._running -= arrived

    async def _check(self, scope: Scope) -> AbstractContextManager[None] | None:
        """What lasts as long as the request, where its caller is known."""
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        if self._callers is None:
            check_host(headers.get("host", b"").decode("latin-1"))
        if scope["path"] in OPEN_PATHS or SIGNED_IN in scope:
            return None
        caller = (
            await _find(headers.get("authorization", b""), self._callers) if self._callers else None
        )
        notes_of(scope).key = caller.name if caller else None
        if self._open > MAX_OPEN:
            raise _overloaded(MAX_OPEN)
        return self._callers.asking(caller) if self._callers and caller else None


def _overloaded(most: int) -> Refusal:
    rule = f"{most} requests are being answered already, and no more are taken at once"
    headers = {"Retry-After": "1"}
    return Refusal(503, "overloaded", f"{rule}; ask again in a second", kind=SERVER, headers=headers)


async def _find(authorization: bytes, callers: Callers) -> Caller:
    """Whose key a request shows; raises Refusal where it shows none, or a wrong one."""
    scheme, _, key = authorization.partition(b" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    remedy = (
        "send the header Authorization: Bearer KEY, KEY being one that the endpoint's operator gave you"
    )
    if scheme.lower() != b"bearer" or not key.strip():
        message = f"no key was sent, and this endpoint asks for one; {remedy}"
        raise Refusal(401, "missing_api_key", message, kind="authentication_error", headers=challenge)
    caller = await callers.find(key.strip())
    if caller is None:
        message = f"the key that was sent is not one of this endpoint's, or no more; {remedy}"
        raise Refusal(401, "wrong_api_key", message, kind="authentication_error", headers=challenge)
    return caller


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
    asked = f"{scope['method']} {getattr(scope.get('route'), 'path', NO_ROUTE)}"
    log.error("failure %s: %s, request %s: %s", number, asked, notes_of(scope).id, place_of(error))
    return Refusal(
        500,
        "internal_error",
        f"the endpoint failed on this request; its log tells why, under failure {number}",
        kind=SERVER,
    )


__all__ = ["MAX_REQUESTS", "OPEN_PATHS", "READ_PATHS", "SIGNED_IN", "Guard"]
