"""`connect()`: the platform from team code, with the words of the command line.

studio = genloom.connect()                              # the platform on this machine
endpoint = genloom.connect("http://127.0.0.1:8000")     # models that are served somewhere
endpoint.models["image-vae"].generate(label=3)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genloom.errors import EndpointError, UnknownName
from genloom.platforms import local_platform
from genloom.prompt import Prompt
from genloom.samples import Audio, Image, Notes, Sample, Text

MEDIA: dict[str, type[Sample]] = {kind.media_type: kind for kind in (Image, Audio, Notes)}


def connect(address: str | None = None, *, key: str | None = None, timeout_s: float = 120) -> Any:
    """The platform on this machine, or an endpoint.

    Args:
        address: An endpoint's URL (`http://…`), a store's (`file:///…`, `s3://…`) for the platform
            on this machine, or None for that platform's own store.
        key: The endpoint's key, where it asks for one.
        timeout_s: How long an answer of an endpoint may take.

    Returns:
        An `Endpoint`, or the local platform: `.train(…)`, `.evaluate(…)`, `.models`, `.datasets`.
    """
    if address and address.startswith(("http://", "https://")):
        return Endpoint(address, key, timeout_s)
    return local_platform(address)


class Endpoint:
    """A served platform."""

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 120) -> None:
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s)
        self.url = url

    @property
    def models(self) -> "EndpointModels":
        """The models that are served here, by name."""
        return EndpointModels(self)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return the JSON of the answer.

        Raises:
            EndpointError: No answer came, or one of status 400 and above.
        """
        import httpx

        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise EndpointError(f"{self.url} did not answer: {error}; is it served there?") from error
        if answer.is_error:
            raise EndpointError(_message(answer), answer.status_code)
        return answer.json()


class EndpointModels(Mapping[str, "EndpointModel"]):
    """The models of an endpoint: `endpoint.models["image-vae"]`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __getitem__(self, name: str) -> "EndpointModel":
        served = list(self)
        if name not in served:
            raise UnknownName("model", name, served, f"served at {self._endpoint.url}")
        return EndpointModel(self._endpoint, name)

    def __iter__(self) -> Iterator[str]:
        listing = self._endpoint.request("GET", "/v1/models")
        return iter([entry["id"] for entry in listing["data"]])

    def __len__(self) -> int:
        return len(list(iter(self)))


class EndpointModel:
    """One served model."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint = endpoint
        self.name = name

    def generate(
        self,
        prompts: Sequence[Prompt | Mapping[str, Any]] | None = None,
        *,
        count: int = 1,
        **fields: Any,
    ) -> list[Sample]:
        """Ask for samples.

        Args:
            prompts: One prompt for each sample; or
            count: how many samples of the one prompt that `fields` describe.
            fields: The prompt's fields, as in `label=3`.
        """
        asked = [_as_json(prompt) for prompt in prompts] if prompts else [_as_json(fields)] * count
        body = {"model": self.name, "prompts": asked}
        answer = self._endpoint.request("POST", "/v1/generate", body)
        return [sample_from_json(item["sample"]) for item in answer["samples"]]


def sample_from_json(value: Any) -> Sample:
    """The sample that an endpoint sent: a string is a text, an object names its media type."""
    if isinstance(value, str):
        return Text(value)
    return MEDIA[value["media_type"]].from_json(value)


def _as_json(prompt: Prompt | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(prompt, Prompt):
        return prompt.model_dump(mode="json")
    return {
        name: value.to_json() if isinstance(value, Sample) else value for name, value in prompt.items()
    }


def _message(answer: Any) -> str:
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"
