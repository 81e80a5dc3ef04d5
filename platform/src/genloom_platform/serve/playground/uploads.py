"""What visitors send to the page: how large it may be, and that it names no file but their own."""

import asyncio
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genloom_platform.serve.body import MAX_BODY_BYTES
from genloom_platform.serve.errors import SERVER, Refusal

FILES = "/gradio_api/file="
MAX_FILES_BYTES = 1 << 30
"""What the files of all visitors may take together; they are cleared away after some minutes."""


async def check_files(path: str, folder: Path) -> None:
    """Raise Refusal where a file is none of the page's, or where there is no room for one more."""
    if path.startswith(FILES):
        wanted = Path(path.removeprefix(FILES))
        if not wanted.is_absolute() or not wanted.resolve().is_relative_to(folder):
            raise Refusal(404, "not_found", "this is no file of the page; open /")
    if path == "/gradio_api/upload" and await asyncio.to_thread(_size_bytes, folder) > MAX_FILES_BYTES:
        message = "the page holds as many files as it may; try again in some minutes"
        raise Refusal(503, "no_room", message, kind=SERVER, headers={"Retry-After": "120"})


def check_paths(value: Any, folder: Path) -> None:
    """Raise Refusal where a form names a file that was not uploaded here: Gradio would fetch any address."""
    if isinstance(value, dict):
        known = cast(dict[str, Any], value)
        path = known.get("path")
        if path is not None and not (
            isinstance(path, str) and Path(path).resolve().is_relative_to(folder)
        ):
            message = "the form names a file that was not uploaded; choose it anew"
            raise Refusal(422, "unknown_file", message)
        for inner in known.values():
            check_paths(inner, folder)
    elif isinstance(value, list):
        for inner in cast(list[Any], value):
            check_paths(inner, folder)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Replayed:
    """A request whose body has been read."""

    def __init__(self, app: ASGIApp, body: bytes) -> None:
        self._app, self._body = app, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle it."""
        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(self._body)).encode()))
        body: bytes | None = self._body

        async def replayed() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message = {"type": "http.request", "body": body, "more_body": False}
            body = None
            return message

        await self._app({**scope, "headers": headers}, replayed, send)


class Limited:
    """A request whose body is cut off, and refused, where it is too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle it."""
        length = Request(scope).headers.get("content-length", "")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            await _too_large().response()(scope, receive, send)
            return
        size, started = 0, False

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY_BYTES:
                raise _too_large()
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except Refusal as refusal:
            if started:
                raise
            await refusal.response()(scope, receive, send)


def _too_large() -> Refusal:
    limit = MAX_BODY_BYTES >> 20
    return Refusal(
        413, "body_too_large", f"that is over {limit} MiB, the most to send; send a smaller file"
    )
