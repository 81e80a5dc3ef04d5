"""Answers that are sent while they are made, as server-sent events (the HTML standard, 9.2)."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from genloom_platform.serve.asking import Begun
from genloom_platform.serve.errors import SERVER, Refusal

DONE = b"data: [DONE]\n\n"
"""The last event, by which a caller knows that nothing was cut off."""

log = logging.getLogger("genloom.serve")


class EventStream(StreamingResponse):
    """Values made of a stream as events; when the caller goes, both are closed at once.

    An error in the midst of it, when the status has long been sent, is an event too, and the last.
    """

    media_type = "text/event-stream"

    def __init__(self, values: AsyncGenerator[Any], begun: Begun) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(values), headers=headers)
        self._values, self._begun = values, begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, and listen meanwhile whether the caller is still there."""
        sending = asyncio.ensure_future(self.stream_response(send))
        listening = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            listening.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)
            await self._values.aclose()
            await self._begun.close()  # of its own, since values may never have begun


async def _events(values: AsyncGenerator[Any]) -> AsyncIterator[bytes]:
    async with aclosing(values):
        try:
            async for value in values:
                yield b"data: " + to_json(value, inf_nan_mode="null") + b"\n\n"
        except Refusal as refusal:
            yield b"data: " + to_json(refusal.told()) + b"\n\n"
            return
        except Exception as error:
            number = secrets.token_hex(4)
            log.error("failure %s: a stream broke off", number, exc_info=error)
            message = f"the endpoint failed in this stream; its log tells why, under failure {number}"
            refusal = Refusal(500, "internal_error", message, kind=SERVER)
            yield b"data: " + to_json(refusal.told()) + b"\n\n"
            return
        yield DONE
