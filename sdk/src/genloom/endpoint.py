"""Models that are served somewhere, asked over HTTP.

endpoint = genloom.connect("http://127.0.0.1:8000")
endpoint.models["image-vae"].generate(label=3)
endpoint.models["image-classifier"].predict(image=picture)
for piece in endpoint.models["text-rnn"].stream(start="Once "): print(piece, end="")

What is asked, and when again, stands in `asking.py`; here it is sent.
"""

import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any
from urllib.parse import urlsplit

from genloom import asking
from genloom.asked import Asked, prompt_of, prompts_of
from genloom.asking import Call, Conversation, Wait
from genloom.errors import EndpointError, UnknownName
from genloom.made import Samples
from genloom.predictions import Prediction
from genloom.samples import Sample

File = str | PathLike[str] | None
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that are this machine."""


class Endpoint:
    """A served platform. It holds connections open: close it, or use it in a `with`."""

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = 120, ca: File = None
    ) -> None:
        import httpx

        self._http = httpx.Client(**http_options(url, key, timeout_s, ca))
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


def http_options(url: str, key: str | None, timeout_s: float, ca: File) -> dict[str, Any]:
    """As httpx is told; it knows the authorities of the system, and of the environment's SSL_CERT_FILE.

    On loopback it goes through no proxy of the environment's, which would read the key.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    verify = ssl.create_default_context(cafile=ca) if ca else True
    host = urlsplit(url).hostname or ""
    here = f"all://[{host}]" if ":" in host else f"all://{host}"
    return {
        "base_url": url.rstrip("/"),
        "headers": headers,
        "timeout": timeout_s,
        "verify": verify,
        "mounts": {here: None} if host in LOOPBACK else None,
    }
