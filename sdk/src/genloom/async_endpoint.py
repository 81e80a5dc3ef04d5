"""Models that are served somewhere, asked over HTTP by code that awaits: the words of `endpoint.py`.

endpoint = genloom.connect_async("http://127.0.0.1:8000")
await endpoint.models["image-vae"].generate(label=3)
async for piece in endpoint.models["text-rnn"].stream(start="Once "): print(piece, end="")
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from genloom import asking
from genloom.asked import Asked, prompt_of, prompts_of
from genloom.asking import Conversation, Wait
from genloom.endpoint import File, http_options
from genloom.errors import EndpointError
from genloom.made import Samples
from genloom.predictions import Prediction
from genloom.samples import Sample


class AsyncEndpoint:
    """A served platform, for code that awaits. Close it, or use it in an `async with`."""

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = 120, ca: File = None
    ) -> None:
        import httpx

        self._http = httpx.AsyncClient(**http_options(url, key, timeout_s, ca))
        self.url = url

    @property
    def models(self) -> "AsyncEndpointModels":
        """The models that are served here, by name."""
        return AsyncEndpointModels(self)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncEndpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def talk(self, conversation: Conversation) -> Any:
        """Send what a conversation asks for, and return what it comes to."""
        import httpx

        came: Any = None
        while True:
            try:
                step = conversation.send(came)
            except StopIteration as end:
                return end.value
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                continue
            try:
                built = self._http.build_request(step.method, step.path, json=step.body)
                came = await self._http.send(built, stream=step.stream)
                if step.stream and came.is_error:
                    await came.aread()
            except httpx.HTTPError as error:
                came = error


class AsyncEndpointModels:
    """The models of an endpoint: `endpoint.models["image-vae"]`; a wrong name is told when it is asked."""

    def __init__(self, endpoint: AsyncEndpoint) -> None:
        self._endpoint = endpoint

    def __getitem__(self, name: str) -> "AsyncEndpointModel":
        return AsyncEndpointModel(self._endpoint, name)

    async def names(self) -> list[str]:
        """What is served."""
        return await self._endpoint.talk(asking.names(self._endpoint.url))


class AsyncEndpointModel:
    """One served model; the arguments are those of `EndpointModel`."""

    def __init__(self, endpoint: AsyncEndpoint, name: str) -> None:
        self._endpoint = endpoint
        self.name = name

    async def generate(
        self, prompts: Sequence[Asked] | None = None, *, count: int = 1, **fields: Any
    ) -> Samples:
        """Ask for samples."""
        wanted = prompts_of(prompts, count, fields)
        return await self._endpoint.talk(asking.generate(self._endpoint.url, self.name, wanted))

    async def predict(self, prompts: Sequence[Asked] | None = None, **fields: Any) -> list[Prediction]:
        """Ask for predictions."""
        wanted = prompts_of(prompts, 1, fields)
        return await self._endpoint.talk(asking.predict(self._endpoint.url, self.name, wanted))

    async def stream(self, prompt: Asked | None = None, **fields: Any) -> AsyncGenerator[Sample]:
        """The sample of one prompt in pieces, as they are made; closed, it ends the making."""
        import httpx

        url = self._endpoint.url
        answer = await self._endpoint.talk(asking.stream(url, self.name, prompt_of(prompt, fields)))
        pieces = asking.Pieces(url)
        try:
            async for line in answer.aiter_lines():
                for piece in pieces.read(line):
                    yield piece
            pieces.end()
        except httpx.HTTPError as error:
            raise EndpointError(f"{url} broke the stream off: {error}; ask again") from error
        finally:
            await answer.aclose()
