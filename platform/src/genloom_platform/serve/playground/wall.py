"""Which requests are the page's, and who may make them. All others go on to the endpoint's routes.

    GET  /         the page, or the page that asks for a key; GET /docs asks for it likewise
    POST /login    a key in the body; what comes back is a session in a cookie
    POST /logout   the session ends
    …              what Gradio's page needs, path by path: whatever else Gradio has does not exist here

Gradio is loaded and the page made when it is asked for first: an endpoint for programs never pays for it.
"""

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genloom_platform.serve import docs
from genloom_platform.serve.body import read_json
from genloom_platform.serve.callers import Callers
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.guard import READ_PATHS, SIGNED_IN, check_host
from genloom_platform.serve.playground import login
from genloom_platform.serve.playground.sessions import COOKIE, LASTS_S, Sessions
from genloom_platform.serve.playground.uploads import FILES, Limited, Replayed, check_files, check_paths

EXACT: dict[str, str] = {
    "/": "GET",
    "/config": "GET",
    "/theme.css": "GET",
    "/favicon.ico": "GET",
    "/manifest.json": "GET",
    "/gradio_api/startup-events": "GET",
    "/gradio_api/queue/data": "GET",
    "/gradio_api/upload_progress": "GET",
    "/gradio_api/queue/join": "POST",
    "/gradio_api/run/predict": "POST",
    "/gradio_api/upload": "POST",
    "/gradio_api/cancel": "POST",
    "/gradio_api/reset": "POST",
    "/login": "POST",
    "/logout": "POST",
}
BELOW = ("/assets/", "/static/", FILES, "/gradio_api/heartbeat/")
CLAIMED = ("/gradio_api", *BELOW)
MAX_KEY_BYTES = 4096
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Gradio builds functions out of text ('unsafe-eval') and styles its parts in place; nothing comes from
another host, and nothing goes there."""

log = logging.getLogger("genloom.serve")


class MakesPage(Protocol):
    """What makes the page."""

    def shape(self) -> Any:
        """What a page is made of: where it changes, another has to be made."""
        ...

    async def make(self, folder: Path, sessions: Sessions | None) -> FastAPI:
        """A page whose files lie in a folder."""
        ...


class Wall:
    """ASGI middleware before an endpoint's routes."""

    def __init__(self, app: ASGIApp, made: "Page", sessions: Sessions | None) -> None:
        self._app, self._page, self._sessions = app, made, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path in READ_PATHS and self._sessions is not None:
            app = _reading(Request(scope), self._sessions) or self._app
            await app(scope, receive, send)
            return
        if scope["type"] != "http" or not (path in EXACT or path.startswith(CLAIMED)):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except Refusal as refusal:
            answer = refusal.response()
        except Exception:
            number = secrets.token_hex(4)
            log.exception("failure %s: the playground's %s %s", number, request.method, path)
            message = f"the page failed; the endpoint's log tells why, under failure {number}"
            answer = Refusal(500, "internal_error", message, kind=SERVER).response()
        await answer(scope, receive, _with_headers(send, closed=self._sessions is not None))

    async def _answer(self, request: Request) -> ASGIApp:
        path = request.url.path
        if self._sessions is None:
            check_host(request.headers.get("host", ""))
        _check_origin(request)
        allowed = EXACT.get(path) or ("GET" if path.startswith(BELOW) else None)
        if allowed is None:
            raise Refusal(404, "not_found", f"there is no {path[:80]} on this page; open /")
        if request.method not in (allowed, "HEAD" if allowed == "GET" else allowed):
            message = f"{request.method} {path[:80]}: this path takes {allowed}; send that"
            raise Refusal(405, "method_not_allowed", message, headers={"Allow": allowed})
        if self._sessions is not None:
            if path == "/login":
                return await _sign_in(request, self._sessions)
            if path == "/logout":
                self._sessions.close(request.cookies.get(COOKIE, ""))
                return _signed(RedirectResponse("./", 303), "", 0, request)
            if self._sessions.find(request.cookies.get(COOKIE, "")) is None:
                if path == "/":
                    return HTMLResponse(login.page(), 401 if request.method == "HEAD" else 200)
                message = "your session has ended; reload the page and sign in again"
                raise Refusal(401, "no_session", message, kind="authentication_error")
        elif path in ("/login", "/logout"):
            raise Refusal(404, "not_found", "this endpoint asks for no key; open /")
        page, folder = await self._page.get(anew=path == "/")
        await check_files(path, folder)
        if request.method != "POST":
            return page
        if path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
            body = await read_json(request)
            check_paths(body, folder)
            return Replayed(page, to_json(body))
        return Limited(page)


class Page:
    """The page, made when it is asked for first, and anew when other models or versions are served."""

    def __init__(self, make: MakesPage, sessions: Sessions | None) -> None:
        self._make, self._sessions = make, sessions
        self._turn = asyncio.Lock()
        self._made: tuple[FastAPI, Path] | None = None
        self._shape: Any = None
        self._running = AsyncExitStack()

    async def get(self, anew: bool) -> tuple[FastAPI, Path]:
        """The page's app, and the folder of its files.

        Args:
            anew: Whether a visitor opens it, who may be given another page where other models are served now.
        """
        async with self._turn:
            shape = self._make.shape()
            if self._made and anew and shape != self._shape:
                await self.close()
            if self._made is None:
                folder = Path(tempfile.mkdtemp(prefix="genloom-playground-")).resolve()
                self._running.callback(shutil.rmtree, folder, ignore_errors=True)
                page = await self._make.make(folder, self._sessions)
                await self._running.enter_async_context(page.router.lifespan_context(page))
                self._made, self._shape = (page, folder), shape
            return self._made

    async def close(self) -> None:
        """End what runs for it, and clear its files away."""
        await self._running.aclose()
        self._running, self._made = AsyncExitStack(), None


def install(app: FastAPI, make: MakesPage, callers: Callers | None) -> None:
    """Put the page at an app's root.

    Args:
        app: The endpoint's routes.
        make: Makes the page.
        callers: The keys that the endpoint knows; None where it asks for none.
    """
    sessions = Sessions(callers) if callers else None
    page = Page(make, sessions)
    inner: Any = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncGenerator[Any]:
        async with inner(served) as state:
            try:
                yield state
            finally:
                await page.close()

    app.router.lifespan_context = lifespan
    app.add_middleware(Wall, made=page, sessions=sessions)


def _reading(request: Request, sessions: Sessions) -> ASGIApp | None:
    """Let a visitor who has signed in read what describes the endpoint; ask another one in a browser to do so."""
    if sessions.find(request.cookies.get(COOKIE, "")):
        request.scope[SIGNED_IN] = True
    elif request.url.path == docs.PATH and "authorization" not in request.headers:
        return HTMLResponse(login.page(), 401)
    return None


async def _sign_in(request: Request, sessions: Sessions) -> Response:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_KEY_BYTES:
            return HTMLResponse(login.page("That is too long for a key; look at it again."), 413)
    key = parse_qs(body.decode("latin-1")).get("key", [""])[0].strip()
    token = await sessions.open(key.encode()) if key else None
    if token is None:
        return HTMLResponse(
            login.page("That key is not one of this endpoint's; look at it again."), 401
        )
    return _signed(RedirectResponse("./", 303), token, LASTS_S, request)


def _signed(answer: Response, token: str, lasts_s: int, request: Request) -> Response:
    """An answer that sets the cookie. Where a proxy speaks TLS for the endpoint, `secure` is its to add."""
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, lasts_s, path="/", secure=secure, httponly=True, samesite="strict")
    return answer


def _check_origin(request: Request) -> None:
    """Raise Refusal where the page of another site sends a request through a visitor's browser."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        message = f"Origin = {origin[:80]}: only this endpoint's own page may ask here; open /"
        raise Refusal(403, "origin_not_allowed", message)


def _with_headers(send: Send, closed: bool) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "same-origin"
            if closed:
                headers["Cache-Control"] = "no-store"
            for name in [name for name in headers if name.startswith("access-control-")]:
                del headers[name]
        await send(message)

    return sent
