"""The bodies of these routes' good answers: OpenAI's shapes, with the seed of each sample beside it."""

from typing import Any, Literal

from genloom_platform.serve.answers import Answer


class Usage(Answer):
    """How much was read and written. The unit is the character: not every model has tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(Answer):
    """One of the texts."""

    index: int
    finish_reason: Literal["stop", "length"]
    """`length` where the model wrote all the `max_chars` that it was asked for."""
    logprobs: None
    seed: int
    """Send it again for the same text."""


class TextChoice(Choice):
    """One of the texts, as it goes on."""

    text: str


class Reply(Answer):
    """What the model says."""

    role: Literal["assistant"]
    content: str


class ChatChoice(Choice):
    """One of the replies."""

    message: Reply


class Completion(Answer):
    """What both answers share."""

    id: str
    created: int
    """Unix time in seconds."""
    model: str
    """Name and version of what wrote them."""
    system_fingerprint: str
    """The same: while it stays, a seed gives the same text."""
    usage: Usage


class CompletionAnswer(Completion):
    """Texts."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class ChatAnswer(Completion):
    """Replies."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class ImageData(Answer):
    """A picture."""

    b64_json: str
    """The file, in base64."""
    seed: int
    """Send it again for the same picture."""


class ImagesAnswer(Answer):
    """Pictures."""

    created: int
    """Unix time in seconds."""
    model: str
    """Name and version of what made them."""
    output_format: Literal["png", "webp"]
    data: list[ImageData]


class EmbeddingData(Answer):
    """The features of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of them as little-endian 32-bit floats."""


class EmbeddingsAnswer(Answer):
    """Features, in the order of the inputs."""

    object: Literal["list"]
    model: str
    """Name and version of what answered."""
    data: list[EmbeddingData]
    usage: dict[str, Any]
    """`prompt_tokens` and `total_tokens`, in characters."""
