"""What the client of an endpoint does, apart from the sending: `client.py` sends, with or without `await`.

A conversation is a generator: it yields what to do next (`Call`, `Wait`) and is given what came of it (an answer,
or the exception of the sending), so that everything here is written once.
"""

import email.utils
import json
import random
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from genloom.asked import Asked, as_json
from genloom.errors import EndpointError
from genloom.made import Samples
from genloom.predictions import Embedding, Label, Prediction, Ranking, Value
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
RETRIED = (429, 503)
"""Statuses by which an endpoint says that it has done nothing, and may later."""
MAX_TRIES = 6
"""How often a request is sent at most."""
MAX_WAIT_S = 60.0
"""How long the pauses of one request may last together."""
FIRST_PAUSE_S = 0.5
"""The first pause where the endpoint names none; each further one is twice as long."""


@dataclass(frozen=True)
class Call:
    """A request to send."""

    method: str
    path: str
    body: Any = None
    stream: bool = False
    """Whether the answer is read while it comes."""


@dataclass(frozen=True)
class Wait:
    """A pause to make."""

    seconds: float


Conversation = Generator[Call | Wait, Any, Any]
"""It is sent an `httpx.Response`, or an `httpx.HTTPError`; it returns the result."""


def request(url: str, call: Call) -> Conversation:
    """Send a request, again where the endpoint asks for that, and return the answer.

    It is sent again after 429 and 503, when `Retry-After` says or after a growing pause, and where no connection
    came about, since nothing had been sent then.

    Raises:
        EndpointError: No answer came, or one of status 400 and above.
    """
    import httpx

    waited = 0.0
    for tries in range(1, MAX_TRIES + 1):
        answer = yield call
        if isinstance(answer, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(answer):
            raise EndpointError(
                f"the certificate of {url} is not trusted here: {answer}; give its authority, as in "
                "connect(url, ca='acme-ca.pem'), or in the environment's SSL_CERT_FILE"
            ) from answer
        if isinstance(answer, (httpx.ConnectError, httpx.ConnectTimeout)):
            pause_s = _pause(tries)
            failure = EndpointError(f"{url} did not answer: {answer}; is it served there?")
            if tries >= 3:
                raise failure from answer
        elif isinstance(answer, Exception):
            raise EndpointError(f"{url} did not answer: {answer}; is it served there?") from answer
        elif answer.status_code not in RETRIED:
            if answer.is_error:
                raise EndpointError(_message(answer), answer.status_code)
            return answer
        else:
            pause_s = _retry_after(answer.headers.get("retry-after", ""), _pause(tries))
            failure = EndpointError(_message(answer), answer.status_code)
        if tries == MAX_TRIES or waited + pause_s > MAX_WAIT_S:
            raise failure
        waited += pause_s
        yield Wait(pause_s)
    raise AssertionError("unreachable")


def fetch(url: str, call: Call) -> Conversation:
    """The JSON of an answer.

    Raises:
        EndpointError: As in `request`, or the answer is no JSON.
    """
    answer = yield from request(url, call)
    try:
        return answer.json()
    except ValueError as error:
        raise EndpointError(
            f"{url} answered no JSON, so it is no Genloom endpoint; check the address",
            answer.status_code,
        ) from error


def names(url: str) -> Conversation:
    """The models of an endpoint."""
    listing = yield from fetch(url, Call("GET", "/v1/models"))
    return [entry["id"] for entry in listing["data"]]


def generate(url: str, model: str, prompts: Sequence[Asked]) -> Conversation:
    """One sample for each prompt, as `Samples`."""
    answers, made_by = yield from _ask(url, "/v1/generate", "samples", model, prompts)
    samples = [sample_from_json(item["sample"]) for item in answers]
    return Samples(samples, [item["seed"] for item in answers], made_by)


def predict(url: str, model: str, prompts: Sequence[Asked]) -> Conversation:
    """One prediction for each prompt."""
    answers, _ = yield from _ask(url, "/v1/predict", "predictions", model, prompts)
    return [prediction_from_json(item) for item in answers]


def stream(url: str, model: str, prompt: Asked) -> Conversation:
    """An answer whose lines are `Pieces`."""
    return request(url, Call("POST", f"/v1/generate/{model}?stream=true", as_json(prompt), stream=True))


class Pieces:
    """Reads the events of a stream, line after line.

    Attributes:
        ended: Whether the last event has come.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.ended = False

    def read(self, line: str) -> list[Sample]:
        """The piece that a line holds, if it holds one.

        Raises:
            EndpointError: The line tells that the model failed.
        """
        if not line.startswith("data:"):
            return []
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.ended = True
            return []
        value = json.loads(data)
        if "error" in value:
            raise EndpointError(value["error"]["message"], 200)
        return [sample_from_json(value["piece"])] if "piece" in value else []

    def end(self) -> None:
        """Raise EndpointError where the lines are over and the last event has not come."""
        if not self.ended:
            raise EndpointError(f"{self._url} broke the stream off; ask again with the same seed")


def sample_from_json(value: Any) -> Sample:
    """The sample that an endpoint sent: a string is a text, an object names its media type."""
    if isinstance(value, str):
        return Text(value)
    return MEDIA[value["media_type"]].from_json(value)


def prediction_from_json(value: Any) -> Prediction:
    """The prediction that an endpoint sent; its `kind` tells which."""
    return PREDICTIONS[value["kind"]].model_validate(value)


def _ask(url: str, path: str, key: str, model: str, prompts: Sequence[Asked]) -> Conversation:
    """The answers, and the version that gave the last of them."""
    answers: list[Any] = []
    made_by = model
    for first in range(0, len(prompts), MAX_PROMPTS):
        some = [as_json(prompt) for prompt in prompts[first : first + MAX_PROMPTS]]
        answer = yield from fetch(url, Call("POST", path, {"model": model, "prompts": some}))
        answers += answer[key]
        made_by = answer["model"]
    return answers, made_by


def _pause(tries: int) -> float:
    """Twice as long each time, and never the same for two callers who were refused together."""
    return FIRST_PAUSE_S * 2 ** (tries - 1) * random.uniform(0.75, 1.25)  # noqa: S311


def _retry_after(value: str, otherwise_s: float) -> float:
    """The pause that a header asks for, as seconds or as a date (RFC 9110, 10.2.3)."""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return otherwise_s


def _message(answer: Any) -> str:
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"
