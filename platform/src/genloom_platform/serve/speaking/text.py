"""`/v1/completions` and `/v1/chat/completions`: texts that models of text go on with."""

import secrets
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal, cast

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from genloom_platform.serve.asking import Backend, Begun, ask, begin
from genloom_platform.serve.body import read_json
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.events import EventStream
from genloom_platform.serve.model import Card
from genloom_platform.serve.speaking.answers import ChatAnswer, CompletionAnswer
from genloom_platform.serve.speaking.request import (
    ONE_OR_MORE,
    Several,
    as_model,
    check_count,
    check_query,
    prompt_of,
    repeated,
    text_fields,
)
from genloom_platform.serve.speaking.stopping import Stop

Word = Annotated[str, Field(max_length=256)]
OWN = ("stop", "stream", "stream_options")


class StreamOptions(BaseModel):
    """What a stream holds beside the text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    include_usage: bool = False
    """Whether the last event tells the usage."""
    include_obfuscation: Literal[False] = False
    """Whether events are padded to equal lengths; they are not."""


class TextRequest(Several):
    """What both requests for text share."""

    stream: bool | None = None
    """Whether the text is sent while it is written, as server-sent events."""
    stream_options: StreamOptions | None = None
    stop: Annotated[list[Word], Field(max_length=64), ONE_OR_MORE] | None = None
    """The text ends before any of these; a model whose prompt has a field `stop` gets them as a list."""
    max_tokens: int | None = Field(default=None, ge=1)
    """How much to write at most, in the model's own units: characters, where its prompt has `max_chars`."""
    temperature: float | None = None
    top_p: float | None = None


class CompletionRequest(TextRequest):
    """A text to go on with."""

    prompt: Annotated[list[str], ONE_OR_MORE] = Field(default=[""])
    """The text, or several."""


class TextPart(BaseModel):
    """A text within a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


def _joined(content: Any) -> Any:
    """The text of a message that comes in parts."""
    if not isinstance(content, list):
        return content
    parts = cast(list[Any], content)
    for index, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise ValueError(f"part {index} is no text, and only text is read; leave it out")
    try:
        return "".join(TextPart.model_validate(part).text for part in parts)
    except ValidationError:
        raise ValueError('has a part of another shape; give {"type": "text", "text": "…"}') from None


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined, json_schema_input_type=str | list[TextPart])]
    """Parts of it are joined."""
    name: str | None = None


class ChatRequest(TextRequest):
    """A conversation to go on with."""

    messages: list[Message] = Field(min_length=1, max_length=4096)
    """A model whose prompt has a field `messages` gets them as they are. Another one knows no roles: it goes on
    with their contents, a line each."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The same as `max_tokens`."""


def add_routes(app: FastAPI, backend: Backend, catalog: Catalog) -> None:
    """Add the routes of this file."""

    @app.post("/v1/completions", tags=["openai"], response_model=CompletionAnswer)
    async def completions(request: Request) -> Response:
        """Go on with a text."""
        check_query(request)
        asked = as_model(CompletionRequest, await read_json(request))
        card = catalog.making("text", asked.model)
        check_count("prompt", len(asked.prompt), asked.n)
        starts = [text_fields(card, "prompt", text) for text in asked.prompt]
        return await _Writing(backend, card, asked, starts, asked.prompt, "prompt").answer()

    @app.post("/v1/chat/completions", tags=["openai"], response_model=ChatAnswer)
    async def chat_completions(request: Request) -> Response:
        """Go on with a conversation."""
        check_query(request)
        asked = as_model(ChatRequest, await read_json(request))
        card = catalog.making("text", asked.model)
        text = "\n".join(message.content for message in asked.messages)
        if "messages" in card.fields:
            start = {"messages": [message.model_dump(exclude_none=True) for message in asked.messages]}
        else:
            start = text_fields(card, "messages", text)
        return await _Writing(backend, card, asked, [start], [text], "messages").answer()

    _ = completions, chat_completions


class _Writing:
    """One request for text: its prompts, and the answer in the shape of its route."""

    def __init__(
        self,
        backend: Backend,
        card: Card,
        asked: TextRequest,
        starts: list[dict[str, Any]],
        texts: list[str],
        param: str,
    ) -> None:
        own = {name: None for name in OWN if name != "stop" or "stop" not in card.fields}
        fields = prompt_of(card, asked, own | {param: None})
        self.prompts = [
            prompt for start in starts for prompt in repeated(fields | start, asked.seed, asked.n)
        ]
        self.read = sum(map(len, texts))
        stops = [] if "stop" in card.fields else asked.stop or []
        self.stops = [each for each in stops if each]
        self.backend, self.card, self.asked = backend, card, asked
        self.chat = param == "messages"
        self.head: dict[str, Any] = {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": "chat.completion" if self.chat else "text_completion",
            "created": int(time.time()),
            "model": card.full_name,
            "system_fingerprint": card.full_name,
        }

    def _made_by(self, model: str) -> None:
        """Say which version wrote it."""
        self.head |= {"model": model, "system_fingerprint": model}

    async def answer(self) -> Response:
        """The answer, whole or as a stream."""
        if self.asked.stream:
            begun = await begin(self.backend, self.card, self.prompts[0], False)
            return EventStream(self._events(begun), begun)
        answers = await ask(self.backend, self.card, self.prompts, False)
        self._made_by(answers.model)
        choices: list[dict[str, Any]] = []
        for index, made in enumerate(answers):
            stop = Stop(self.stops)
            text = stop.feed(made["sample"]) + stop.rest()
            content = (
                {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
            )
            end = _end(stop, made["prompt"], len(made["sample"]))
            choices.append(self._choice(index, made["seed"], content, end))
        written = sum(len(made["sample"]) for made in answers)
        body = self.head | {"choices": choices, "usage": self._usage(written)}
        return Response(to_json(body), media_type="application/json")

    async def _events(self, first: Begun) -> AsyncGenerator[dict[str, Any]]:
        """One text after the other, each as it is written."""
        if self.chat:
            self.head["object"] += ".chunk"
        written = 0
        for index, prompt in enumerate(self.prompts):
            begun = first if index == 0 else await begin(self.backend, self.card, prompt, False)
            self._made_by(begun.model)
            stop, length = Stop(self.stops), 0
            try:
                if self.chat:
                    yield self._event(index, begun.seed, {"role": "assistant", "content": ""})
                async for piece in begun.pieces():
                    length += len(piece)
                    if text := stop.feed(piece):
                        yield self._event(index, begun.seed, text)
                    if stop.reached:
                        break
            finally:
                await begun.close()
            written += length
            yield self._event(index, begun.seed, stop.rest(), _end(stop, begun.prompt, length))
        if self.asked.stream_options and self.asked.stream_options.include_usage:
            yield self.head | {"choices": [], "usage": self._usage(written)}

    def _event(self, index: int, seed: int, text: Any, end: str | None = None) -> dict[str, Any]:
        content: dict[str, Any] = {"text": text}
        if self.chat:
            content = {"delta": {"content": text} if isinstance(text, str) else text}
        return self.head | {"choices": [self._choice(index, seed, content, end)]}

    def _choice(
        self, index: int, seed: int, content: dict[str, Any], end: str | None
    ) -> dict[str, Any]:
        return {"index": index, **content, "finish_reason": end, "logprobs": None, "seed": seed}

    def _usage(self, written: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.read,
            "completion_tokens": written,
            "total_tokens": self.read + written,
        }


def _end(stop: Stop, prompt: dict[str, Any], length: int) -> str:
    """Why a text ended: it was long enough, or it came to its end (or to a stop)."""
    limit = prompt.get("max_chars")
    return "length" if limit is not None and length >= limit and not stop.reached else "stop"
