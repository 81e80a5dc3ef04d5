"""`connect()`: the platform from team code, with the words of the command line.

studio = genloom.connect()                              # the platform on this machine
lab = genloom.connect("lab")                            # the platform on a cluster, by its profile
endpoint = genloom.connect("http://127.0.0.1:8000")     # models that are served somewhere
endpoint.models["image-vae"].generate(label=3)
endpoint.models["image-classifier"].predict(image=picture)
for piece in endpoint.models["text-rnn"].stream(start="Once "): print(piece, end="")

endpoint = genloom.connect_async("http://127.0.0.1:8000")   # the same words with await
await endpoint.models["image-vae"].generate(label=3)

What both do with an endpoint stands in `asking.py`; here it is sent.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

from genloom import asking
from genloom.asked import Asked, prompt_of, prompts_of
from genloom.asking import Call, Conversation, Wait
from genloom.errors import EndpointError, RequestError, UnknownName
from genloom.made import Samples
from genloom.platforms import cluster_platform, local_platform
from genloom.predictions import Prediction
from genloom.samples import Sample

File = str | PathLike[str] | None


def connect(
    address: str | None = None,
    *,
    key: str | None = None,
    timeout_s: float = 120,
    ca: File = None,
    plugin: File = None,
) -> Any:
    """The platform on this machine or on a cluster, or an endpoint.

    Args:
        address: An endpoint's URL (`http://…`), a store's (`file:///…`, `s3://…`) for the platform
            on this machine, a cluster's name (its profile's), or None for the platform on this machine.
        key: The endpoint's key, where it asks for one.
        timeout_s: How long an answer of an endpoint may take.
        ca: The file of the authority that vouches for the endpoint's certificate; the system's where None.
        plugin: The folder of the team's plugin, which travels to a cluster; the working folder's where None.

    Returns:
        An `Endpoint`, or the local platform: `.train(…)`, `.finetune(…)`, `.sweep(…)`, `.evaluate(…)`,
        `.models`, `.datasets`; on a cluster, `.train(…)`, `.finetune(…)`, `.sweep(…)` and `.serve(…)`, which
        return at once.
    """
    if address and "://" not in address:
        return cluster_platform(address, plugin)
    if plugin is not None:
        raise RequestError(
            f"plugin={plugin!r} travels to a cluster; name one, as in connect('lab', plugin='.')"
        )
    if address and address.startswith(("http://", "https://")):
        return Endpoint(address, key, timeout_s, ca)
    if address and not address.startswith(("file://", "s3://")):
        raise RequestError(
            f"address = {address!r}: it is no address of an endpoint or a store; "
            f"give http://…, https://…, file:///… or s3://…"
        )
    return local_platform(address)


def connect_async(
    url: str, *, key: str | None = None, timeout_s: float = 120, ca: File = None
) -> "AsyncEndpoint":
    """An endpoint, for code that awaits. The arguments are those of `connect`.

    Raises:
        RequestError: The address is no endpoint's.
    """
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"url = {url!r}: it is no endpoint's address; give http://… or https://…")
    return AsyncEndpoint(url, key, timeout_s, ca)


class Endpoint:
    """A served platform. It holds connections open: close it, or use it in a `with`."""

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = 120, ca: File = None
    ) -> None:
        import httpx

        self._http = httpx.Client(**_options(url, key, timeout_s, ca))
        self.url = url

    def __repr__(self) -> str:
        return f"<endpoint {self.url}>"

    @property
    def models(self) -> "EndpointModels":
        """The models that are served here, by name."""
        return EndpointModels(self)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request, again where the endpoint asks for that, and return the JSON of the answer.

        Raises:
            EndpointError: No answer came, or one of status 400 and above, or one that is no JSON.
        """
        return self.talk(asking.fetch(self.url, Call(method, path, body)))

    def talk(self, conversation: Conversation) -> Any:
        """Send what a conversation asks for, and return what it comes to."""
        import httpx

        came: Any = None
        while True:
            try:
                step = conversation.send(came)
            except StopIteration as end:
                return end.value
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                continue
            try:
                built = self._http.build_request(step.method, step.path, json=step.body)
                came = self._http.send(built, stream=step.stream)
                if step.stream and came.is_error:
                    came.read()
            except httpx.HTTPError as error:
                came = error


class EndpointModels(Mapping[str, "EndpointModel"]):
    """The models of an endpoint: `endpoint.models["image-vae"]`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __getitem__(self, name: str) -> "EndpointModel":
        served = self._names()
        if name not in served:
            raise UnknownName("model", name, served, f"served at {self._endpoint.url}")
        return EndpointModel(self._endpoint, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return self._endpoint.talk(asking.names(self._endpoint.url))


class EndpointModel:
    """One served model."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint = endpoint
        self.name = name

    def generate(
        self, prompts: Sequence[Asked] | None = None, *, count: int = 1, **fields: Any
    ) -> Samples:
        """Ask for samples.

        Args:
            prompts: One prompt for each sample; or
            count: how many samples of the one prompt that `fields` describe, of seeds that follow each other.
            fields: The prompt's fields, as in `label=3`.
        """
        wanted = prompts_of(prompts, count, fields)
        return self._endpoint.talk(asking.generate(self._endpoint.url, self.name, wanted))

    def predict(self, prompts: Sequence[Asked] | None = None, **fields: Any) -> list[Prediction]:
        """Ask for predictions.

        Args:
            prompts: One prompt for each prediction; or
            fields: the fields of one, as in `image=picture`.
        """
        wanted = prompts_of(prompts, 1, fields)
        return self._endpoint.talk(asking.predict(self._endpoint.url, self.name, wanted))

    def stream(self, prompt: Asked | None = None, **fields: Any) -> Generator[Sample]:
        """The sample of one prompt in pieces, as they are made; closed, it ends the making.

        Args:
            prompt: The prompt; or
            fields: its fields, as in `start="Once "`.
        """
        import httpx

        url = self._endpoint.url
        answer = self._endpoint.talk(asking.stream(url, self.name, prompt_of(prompt, fields)))
        pieces = asking.Pieces(url)
        try:
            for line in answer.iter_lines():
                yield from pieces.read(line)
            pieces.end()
        except httpx.HTTPError as error:
            raise EndpointError(f"{url} broke the stream off: {error}; ask again") from error
        finally:
            answer.close()


class AsyncEndpoint:
    """A served platform, for code that awaits. Close it, or use it in an `async with`."""

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = 120, ca: File = None
    ) -> None:
        import httpx

        self._http = httpx.AsyncClient(**_options(url, key, timeout_s, ca))
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


def _options(url: str, key: str | None, timeout_s: float, ca: File) -> dict[str, Any]:
    """As httpx is told; it knows the authorities of the system, and of the environment's SSL_CERT_FILE."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    verify = ssl.create_default_context(cafile=ca) if ca else True
    return {"base_url": url.rstrip("/"), "headers": headers, "timeout": timeout_s, "verify": verify}
