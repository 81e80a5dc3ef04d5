"""How the routes ask a model: within a time, and with its errors as what the caller is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from genloom.errors import InvalidConfig, PromptError
from genloom_platform.serve.errors import SERVER, Refusal, from_prompts
from genloom_platform.serve.model import Card
from genloom_platform.serve.seen import note
from genloom_platform.serve.traffic import Answers

Answered = TypeVar("Answered")

MAX_PROMPTS = 256
"""Prompts in a request."""
ANSWER_TIMEOUT_S = 300
"""How long a model may take over a request, or over the next piece of a stream, waiting included."""


class Backend(Protocol):
    """What answers: models in processes of their own (`backend.py`)."""

    def models(self) -> Sequence[Card]:
        """What is served."""
        ...

    async def answer(self, model: str, prompts: Sequence[Any]) -> Answers:
        """One answer for each prompt, both as JSON.

        Args:
            model: A card's address: its full name, in place of which a version on trial may answer where it is
                no `Pinned`.
            prompts: As they came, unchecked.

        Raises:
            InvalidConfig: Prompts are wrong.
            PromptError: The model cannot take one of them.
            Refusal: There is no answer for another reason.
        """
        ...

    async def settle(self, model: str, prompts: Sequence[Any]) -> list[Any]:
        """The prompts as they came, checked, each with its seed; raises what `answer` does."""
        ...

    def stream(self, model: str, prompt: Any) -> AsyncGenerator[dict[str, Any]]:
        """The sample of one prompt in parts, each with `pieces` as JSON.

        The first one also tells `model`, the version that makes it, and what `answer` tells beside the sample.

        Closed before its end, it frees what makes the pieces. Raises what `answer` raises.
        """
        ...


async def ask(backend: Backend, card: Card, prompts: Sequence[Any], listed: bool = True) -> Answers:
    """One answer for each prompt, and the version that gave them.

    Args:
        backend: What answers.
        card: The model.
        prompts: As they came.
        listed: Whether the caller sent a list of them, whose places it knows.

    Raises:
        Refusal: There is none.
    """
    answers = await _within_time(card, prompts, backend.answer, listed)
    note(answers.model, 0)
    return answers


async def settle(
    backend: Backend, card: Card, prompts: Sequence[Any], listed: bool = True
) -> list[Any]:
    """The prompts, checked, each with its seed, to be answered later; raises as `ask`."""
    return await _within_time(card, prompts, backend.settle, listed)


async def _within_time(
    card: Card,
    prompts: Sequence[Any],
    asked: Callable[[str, Sequence[Any]], Awaitable[Answered]],
    listed: bool,
) -> Answered:
    note(card.full_name, len(prompts))
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        message = f"prompts = a list of {len(prompts)}: a request takes 1 to {MAX_PROMPTS}"
        remedy = "send them in several requests" if prompts else "add one"
        raise Refusal(422, "invalid_request", f"{message}; {remedy}", param="prompts")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await asked(card.address, prompts)
    except (InvalidConfig, PromptError, Refusal) as error:
        raise from_prompts(error, listed) from None
    except TimeoutError:
        raise _late(card) from None


async def begin(backend: Backend, card: Card, prompt: Any, listed: bool = True) -> "Begun":
    """Start a stream, as far as its first part; the arguments are those of `ask`.

    Raises:
        Refusal: There is none, told before the answer has begun.
    """
    note(card.full_name, 1)
    parts = _parts(backend, card, prompt, listed)
    begun = Begun(await anext(parts), parts)
    note(begun.model, 0)
    return begun


class Begun:
    """A stream whose first part has come."""

    def __init__(self, first: dict[str, Any], rest: AsyncGenerator[dict[str, Any]]) -> None:
        self.model: str = first["model"]
        self.seed: int = first["seed"]
        self.prompt: dict[str, Any] = first["prompt"]
        self._first, self._rest = first, rest

    async def pieces(self) -> AsyncIterator[Any]:
        """The pieces as JSON; texts that came together are joined."""
        for piece in _joined(self._first["pieces"]):
            yield piece
        async for part in self._rest:
            for piece in _joined(part["pieces"]):
                yield piece

    async def close(self) -> None:
        """Free what makes the pieces, if it still does."""
        await self._rest.aclose()


def _joined(pieces: list[Any]) -> list[Any]:
    return ["".join(pieces)] if pieces and all(isinstance(piece, str) for piece in pieces) else pieces


async def _parts(
    backend: Backend, card: Card, prompt: Any, listed: bool
) -> AsyncGenerator[dict[str, Any]]:
    async with aclosing(backend.stream(card.address, prompt)) as parts:
        try:
            while True:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    part = await anext(parts, None)
                if part is None:
                    return
                yield part
        except (InvalidConfig, PromptError, Refusal) as error:
            raise from_prompts(error, listed) from None
        except TimeoutError:
            raise _late(card) from None


def _late(card: Card) -> Refusal:
    message = f"{card.full_name} gave no answer in {ANSWER_TIMEOUT_S} s; ask for less at once"
    return Refusal(504, "answer_timeout", message, kind=SERVER)
