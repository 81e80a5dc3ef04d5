"""What is seen of a request: an id in its answer, one line of JSON in the log, and figures (`meters.py`).

    {"time": "2026-05-04T10:11:12.131Z", "id": "5f0c…", "key": "web-team", "method": "POST",
     "route": "/v1/generate", "model": "image-vae@3", "status": 200, "prompts": 4, "refused": null,
     "first_ms": 31.2, "last_ms": 31.4, "bytes": 5120, "whole": true}

Nothing that a caller wrote stands in it but a well-formed id: a path that no route has is `none`, and a
query never appears. Health checks that went well are counted, and not logged.
"""

import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
QUIET_ROUTES = ("/healthz", "/-/healthz")
NO_ROUTE = "none"

log = logging.getLogger("genloom.requests")


@dataclass
class Notes:
    """What the parts that handle a request know of it; each writes its own, and `Seen` reads all at the end."""

    id: str
    key: str | None = None
    """The name of the caller's key."""
    model: str | None = None
    """`name@version` of what is asked."""
    prompts: int | None = None
    refused: str | None = None
    """The code of the error that was answered."""


@dataclass(frozen=True)
class Sight:
    """A request that has ended, as its log line has it."""

    time: str
    id: str
    key: str | None
    method: str
    route: str
    model: str | None
    status: int | None
    """None: it ended before an answer began, as where the caller went away."""
    prompts: int | None
    refused: str | None
    first_ms: float | None
    """From its arrival to the first byte of its answer's body."""
    last_ms: float
    bytes: int
    """Of its answer's body."""
    whole: bool
    """Whether the answer was sent to its end."""


class Counted(Protocol):
    """What counts requests (`meters.RequestMeters`)."""

    def running(self, count: int) -> None:
        """So many requests are being answered now."""
        ...

    def ended(self, sight: Sight) -> None:
        """A request has ended."""
        ...


def notes_of(scope: Scope) -> Notes:
    """Where to write what is known of a request."""
    if "genloom.notes" not in scope:
        scope["genloom.notes"] = Notes(_id(scope))
    return scope["genloom.notes"]


_notes: ContextVar[Notes] = ContextVar("notes")


def note(model: str, prompts: int) -> None:
    """Write down what the request that is being handled asks."""
    notes = _notes.get(None)
    if notes is not None:
        notes.model, notes.prompts = model, (notes.prompts or 0) + prompts


class Seen:
    """ASGI middleware, the outermost: it sees what every other part answers."""

    def __init__(
        self,
        app: ASGIApp,
        meters: Counted | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Around an app.

        Args:
            app: What answers.
            meters: What counts, beside the log.
            clock: Seconds.
        """
        self._app, self._meters, self._clock = app, meters, clock
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes = notes_of(scope)
        _notes.set(notes)
        began_at, began_s = datetime.now(UTC), self._clock()
        status: int | None = None
        first_s: float | None = None
        size_bytes, whole = 0, False

        async def watched(message: Message) -> None:
            nonlocal status, first_s, size_bytes, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = notes.id
            await send(message)
            if message["type"] == "http.response.body":
                first_s = self._clock() if first_s is None else first_s
                size_bytes += len(message.get("body", b""))
                whole = not message.get("more_body", False)

        self._count(1)
        try:
            await self._app(scope, receive, watched)
        finally:
            self._count(-1)
            self._tell(
                Sight(
                    time=began_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    method=scope["method"],
                    route=getattr(scope.get("route"), "path", NO_ROUTE),
                    status=status,
                    first_ms=None if first_s is None else round((first_s - began_s) * 1000, 2),
                    last_ms=round((self._clock() - began_s) * 1000, 2),
                    bytes=size_bytes,
                    whole=whole,
                    **vars(notes),
                )
            )

    def _count(self, change: int) -> None:
        self._running += change
        if self._meters is not None:
            self._meters.running(self._running)

    def _tell(self, sight: Sight) -> None:
        if self._meters is not None:
            self._meters.ended(sight)
        if sight.route not in QUIET_ROUTES or sight.status != 200:
            log.info("%s", json.dumps(vars(sight)))


def place_of(error: BaseException | None) -> str:
    """Where an error came from, for a log: its classes and lines of code, without what it says.

    What it says may repeat a prompt, or a part of one.
    """
    parts: list[str] = []
    while error is not None:
        parts.append(f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}")
        error = error.__cause__ or error.__context__
    return "because of ".join(parts).rstrip()


def log_requests() -> None:
    """Write the lines of this process to its error stream, without anything before them.

    Ray keeps that stream of each of its processes as a file, and lets nothing of it out unasked.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _sent(scope: Scope) -> str | None:
    name = HEADER.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _id(scope: Scope) -> str:
    """The caller's id for the request, where it can do no harm in a log; else one that is drawn."""
    sent: Any = _sent(scope)
    return sent if sent and re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", sent) else secrets.token_hex(16)
