"""`connect()`: the platform from team code, with the words of the command line.

studio = genloom.connect()                              # the platform on this machine
lab = genloom.connect("lab")                            # the platform on a cluster, by its profile
endpoint = genloom.connect("http://127.0.0.1:8000")     # models that are served somewhere
endpoint.models["image-vae"].generate(label=3)
endpoint.models["image-classifier"].predict(image=picture)
"""

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, cast

from genloom.errors import EndpointError, RequestError, UnknownName
from genloom.platforms import cluster_platform, local_platform
from genloom.predictions import Embedding, Label, Prediction, Ranking, Value
from genloom.prompt import Prompt
from genloom.samples import Audio, Image, Notes, Sample, Text

MEDIA: dict[str, type[Sample]] = {kind.media_type: kind for kind in (Image, Audio, Notes)}
PREDICTIONS: dict[str, type[Prediction]] = {
    "label": Label,
    "value": Value,
    "embedding": Embedding,
    "ranking": Ranking,
}
MAX_PROMPTS = 256
"""Prompts that one request to an endpoint may hold; more go in several."""


def connect(
    address: str | None = None,
    *,
    key: str | None = None,
    timeout_s: float = 120,
    plugin: str | PathLike[str] | None = None,
) -> Any:
    """The platform on this machine or on a cluster, or an endpoint.

    Args:
        address: An endpoint's URL (`http://…`), a store's (`file:///…`, `s3://…`) for the platform
            on this machine, a cluster's name (its profile's), or None for the platform on this machine.
        key: The endpoint's key, where it asks for one.
        timeout_s: How long an answer of an endpoint may take.
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
            EndpointError: No answer came, or one of status 400 and above, or one that is no JSON.
        """
        import httpx

        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise EndpointError(f"{self.url} did not answer: {error}; is it served there?") from error
        if answer.is_error:
            raise EndpointError(_message(answer), answer.status_code)
        try:
            return answer.json()
        except ValueError as error:
            raise EndpointError(
                f"{self.url} answered no JSON, so it is no Genloom endpoint; check the address",
                answer.status_code,
            ) from error


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
        asked = [fields] * count if prompts is None else prompts
        answers = self._ask("/v1/generate", "samples", asked)
        return [sample_from_json(item["sample"]) for item in answers]

    def predict(
        self, prompts: Sequence[Prompt | Mapping[str, Any]] | None = None, **fields: Any
    ) -> list[Prediction]:
        """Ask for predictions.

        Args:
            prompts: One prompt for each prediction; or
            fields: the fields of one, as in `image=picture`.
        """
        asked = [fields] if prompts is None else prompts
        return [prediction_from_json(item) for item in self._ask("/v1/predict", "predictions", asked)]

    def _ask(self, path: str, key: str, prompts: Sequence[Prompt | Mapping[str, Any]]) -> list[Any]:
        answers: list[Any] = []
        for first in range(0, len(prompts), MAX_PROMPTS):
            some = [_as_json(prompt) for prompt in prompts[first : first + MAX_PROMPTS]]
            answer = self._endpoint.request("POST", path, {"model": self.name, "prompts": some})
            answers += answer[key]
        return answers


def sample_from_json(value: Any) -> Sample:
    """The sample that an endpoint sent: a string is a text, an object names its media type."""
    if isinstance(value, str):
        return Text(value)
    return MEDIA[value["media_type"]].from_json(value)


def prediction_from_json(value: Any) -> Prediction:
    """The prediction that an endpoint sent; its `kind` tells which."""
    return PREDICTIONS[value["kind"]].model_validate(value)


def _as_json(prompt: Prompt | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(prompt, Prompt):
        return prompt.model_dump(mode="json")
    return {name: _plain(value) for name, value in prompt.items()}


def _plain(value: Any) -> Any:
    """A value as JSON knows it: media as they are sent, also within lists and mappings."""
    if isinstance(value, Sample):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in cast(Mapping[str, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in cast(Sequence[Any], value)]
    return value


def _message(answer: Any) -> str:
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"
