"""The models of an endpoint as its gateway reaches them: by handles of Serve to their replicas."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

from ray.exceptions import RayActorError

from genloom_platform.serve.coalesce import Interrupted
from genloom_platform.serve.dispatch import Dispatch
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.handles import Handles
from genloom_platform.serve.model import Card
from genloom_platform.serve.traffic import Answers


class RayBackend:
    """The models of an endpoint, reached through Serve's handles."""

    def __init__(self) -> None:
        self._handles = Handles(lambda version: self.dispatch.pool(version))
        self.dispatch = Dispatch(self._call)

    def models(self) -> Sequence[Card]:
        """What is served."""
        return self.dispatch.models()

    async def answer(self, model: str, prompts: Sequence[Any]) -> Answers:
        """See `app.Backend`."""
        return await self.dispatch.answer(model, prompts)

    async def _call(self, version: str, requests: list[Sequence[Any]]) -> list[Any]:
        """See `coalesce.Call`."""
        response = self._handles[version].answer_many.remote(requests)
        try:
            return await response
        except RayActorError as error:
            raise Interrupted from error
        except asyncio.CancelledError:
            response.cancel()  # a wait that ends does not end the call
            raise

    async def settle(self, model: str, prompts: Sequence[Any]) -> list[Any]:
        """See `app.Backend`."""
        version = self.dispatch.choose(model)
        with self.dispatch.using(version):
            try:
                result = await self._handles[version].settle.remote(prompts)
            except RayActorError:
                raise _stopped(version) from None
        if isinstance(result, Exception):
            raise result
        return result

    async def stream(self, model: str, prompt: Any) -> AsyncGenerator[dict[str, Any]]:
        """See `app.Backend`."""
        version = self.dispatch.choose(model)
        with self.dispatch.asking(version):
            parts = cast(Any, self._handles[version]).options(stream=True).stream.remote(prompt)
            try:
                async for part in parts:
                    if isinstance(part, Exception):
                        raise part
                    yield part
            except RayActorError:
                raise _stopped(version) from None
            finally:
                parts.cancel()  # where the caller has gone, the replica stops; else it does nothing


def _stopped(version: str) -> Refusal:
    message = f"{version} stopped meanwhile and is started again; ask again in some seconds"
    headers = {"Retry-After": "5"}
    return Refusal(503, "model_stopped", message, kind=SERVER, headers=headers)
