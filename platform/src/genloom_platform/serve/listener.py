"""An app on a port of this process, by uvicorn: what listens, how it begins and how it ends.

Callers reach the gateway without another process between. Ray Serve's proxy would unpack a request, hand it
on by a remote call and fetch its body by a second one; measured, that cost more than the gateway's own work.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genloom_platform.serve.tls import Tls

HEAD_S = 10.0
"""How long a request's head may take to arrive, or a new connection to send anything."""
MAX_HEAD_BYTES = 64 << 10
KEEP_ALIVE_S = 65.0
"""How long a connection stays open between two requests: longer than load balancers', who reuse them."""
DRAIN_S = 10
"""How long requests that are under way may take when it ends."""
BACKLOG = 2048


@dataclass(frozen=True)
class Address:
    """Where an endpoint listens."""

    host: str
    port: int
    tls: Tls | None = None

    def bound(self) -> socket.socket:
        """A socket that is bound there; raises OSError."""
        family, kind, protocol, _, address = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        )[0]
        opened = socket.socket(family, kind, protocol)
        try:
            # So that a port whose last connections are still closing counts as free; and one whose gateway
            # is being replaced, for both listen then for a while.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.bind(address)
        except OSError:
            opened.close()
            raise
        return opened


class Listener:
    """An app that is listened for."""

    def __init__(self, app: ASGIApp, at: Address) -> None:
        """An app, not yet listened for.

        Args:
            app: What answers.
            at: Where to listen.

        Raises:
            OSError: It cannot listen there.
        """
        self._socket = at.bound()
        config = uvicorn.Config(
            app,
            http=_Bounded,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=int(KEEP_ALIVE_S),
            timeout_graceful_shutdown=DRAIN_S,
            backlog=BACKLOG,
            **(at.tls.files if at.tls else {}),
        )
        self._server = uvicorn.Server(config)

    async def begin(self) -> None:
        """Listen from now on; returns when it does."""
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("the app did not start; the lines above tell why")
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Take no more requests, and return when those under way are answered, or their time is over."""
        self._server.should_exit = True
        await self._serving


class _Bounded(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, with a bound on how long and how large a request's head may be.

    Else a caller could hold connections and memory for ever by heads that never end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(
                b"431 Request Header Fields Too Large", b"the head of the request is too large"
            )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._leave()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._late)

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._head_bytes = None, 0

    def _late(self) -> None:
        self._refuse(b"408 Request Timeout", b"the head of the request took too long")

    def _refuse(self, status: bytes, why: bytes) -> None:
        self._leave()
        if self.transport.is_closing():
            return
        head = b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(why)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + head + why)
        self.transport.close()
