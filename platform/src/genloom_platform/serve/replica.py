"""A version of a model in a process of its own.

A request goes to the Gateway (`gateway.py`, `app.py`), and from there by a handle of Serve (`backend.py`) to
a ModelReplica, where it shares batches with others (`model.py`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, cast

from ray import serve

from genloom import LoadedModel, Prompt
from genloom.errors import GenloomError, InvalidConfig, PromptError, RequestError
from genloom_platform.serve.engine import Engine
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.meters import ModelMeters
from genloom_platform.serve.model import Card, Served, ServedGenerator, served, whole
from genloom_platform.serve.scaling import REQUESTS
from genloom_platform.serve.seen import place_of
from genloom_platform.serve.speed import Speed, apply

MAX_BATCH = 64
"""Prompts that a model is given at once."""
TURN_S = 0.02
"""How long a stream computes before batches and other streams have their turn; the pieces that it makes
meanwhile are sent together. Its first piece is sent alone."""
PARTS_PER_S = 200
"""Parts that a replica sends of all its streams: each costs three processes about a millisecond, and pieces
that come together cost no more than one."""
READERS = 2
"""Requests whose prompts are read at once: decoding a picture takes up to 500 MiB."""
HEALTH_S = 2.0
"""Between two looks whether a replica lives; one that does not is replaced."""
CAUSE = "because: "
"""After it stands, to the end of the line, why a process cannot start; Serve hands on a traceback."""

log = logging.getLogger("genloom.serve")


# All that the gateway lets through may share batches. A model that cannot be loaded is told at once.
@serve.deployment(
    max_ongoing_requests=MAX_REQUESTS, max_constructor_retry_count=1, health_check_period_s=HEALTH_S
)
class ModelReplica:
    """One model in a process of its own; it has made a sample or a prediction before it is asked."""

    def __init__(
        self, load: Callable[[], LoadedModel], created: int, run: str | None, speed: Speed
    ) -> None:
        import torch

        torch.set_num_threads(1)
        try:
            self._model = served(apply(load(), speed), created, run)
            warm(self._model)
        except Exception as error:
            what = str(error) if isinstance(error, GenloomError) else f"{type(error).__name__}: {error}"
            raise RuntimeError(CAUSE + " ".join(what.split())) from error
        self._engine = self._model.engine()
        queue = self._engine.waiting if self._engine else lambda: 0
        self._meters = ModelMeters(self._model.loaded.name, queue)
        self._worker = ThreadPoolExecutor(1, "model")
        self._readers = ThreadPoolExecutor(READERS, "reader")
        # Not as a decorator, whose queue is the class's: where a process holds several models (`pool.py`), the
        # first one of a batch would answer for the others.
        # The first prompt waits for no others: those that come while it is computed share the next batch.
        batch = serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0)
        self._batch: Callable[[Prompt], Awaitable[Any]] = cast(Any, batch(self._batched))
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests = self._streams = 0

    def put_away(self) -> None:
        """Free the model, where the process goes on without it (`pool.py`); nobody may ask it any more."""
        if self._engine:
            self._engine.close()
        for threads in (self._worker, self._readers):
            threads.shutdown(wait=False)
        del self._model, self._engine

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `scaling.by_requests` goes by; Serve itself counts calls, each of which may hold many."""
        return {REQUESTS: self._requests}

    async def card(self) -> Card:
        """What to tell of the model."""
        return await asyncio.to_thread(self._model.card)

    async def answer_many(self, requests: Sequence[Sequence[Any]]) -> list[Any]:
        """Several requests at once: for each what `answer` gives."""
        self._requests += len(requests)
        try:
            return await asyncio.gather(*map(self.answer, requests))
        finally:
            self._requests -= len(requests)

    async def answer(self, given: Sequence[Any]) -> list[Any] | InvalidConfig | PromptError | Refusal:
        """One answer for each prompt, or why there is none.

        Errors are returned: raised ones would be logged, wrapped and counted as Serve's own failures.
        """
        try:
            prompts = await self._read(given)
        except InvalidConfig as error:
            return error
        results = await asyncio.gather(*(self._in_batch(prompt) for prompt in prompts))
        for index, result in enumerate(results):
            if isinstance(result, Exception):
                return self._explain(index, prompts[index], result)
        return await asyncio.to_thread(
            lambda: [self._model.answer(*pair) for pair in zip(prompts, results, strict=True)]
        )

    async def settle(self, given: Sequence[Any]) -> list[Any] | InvalidConfig:
        """See `asking.Backend`; an error is returned, as by `answer`."""
        try:
            return await asyncio.to_thread(self._model.settle, given)
        except InvalidConfig as error:
            return error

    async def stream(self, given: Any) -> AsyncIterator[dict[str, Any] | Exception]:
        """The sample of one prompt in pieces, as `app.Backend.stream` gives them; an error ends them."""
        self._requests += 1
        self._streams += 1
        try:
            async with aclosing(self._streamed(given)) as parts:
                async for part in parts:
                    yield part
        finally:
            self._requests -= 1
            self._streams -= 1

    async def _streamed(self, given: Any) -> AsyncGenerator[dict[str, Any] | Exception]:
        try:
            (prompt,) = await self._read([given])
        except InvalidConfig as error:
            yield error
            return
        model = cast(ServedGenerator, self._model)
        head = {"model": model.loaded.name} | model.head(prompt)
        try:
            async with aclosing(self._pieces(prompt)) as parts:
                async for pieces in parts:
                    if self._engine:
                        self._meters.tokens(len(pieces))
                    yield head | {"pieces": pieces}
                    head = {}
        except Exception as error:
            yield self._explain(0, prompt, error)

    async def _pieces(self, prompt: Prompt) -> AsyncGenerator[list[Any]]:
        """The pieces of a prompt's sample as JSON, those together that were made meanwhile."""
        if self._engine:
            async with aclosing(self._engine.write(prompt, self._pause_s)) as parts:
                async for pieces in parts:
                    yield [piece.to_json() for piece in pieces]
            return
        made = cast(ServedGenerator, self._model).pieces(prompt)
        loop, turn_s = asyncio.get_running_loop(), 0.0
        try:
            while pieces := await loop.run_in_executor(self._worker, _some, made, turn_s):
                yield pieces
                turn_s = TURN_S
        finally:
            # Also where the caller has gone: what was computing is then done first, on the same thread.
            self._worker.submit(cast(Any, made).close)

    def _pause_s(self) -> float:
        """Between two parts of a stream, so that all streams together stay within `PARTS_PER_S`."""
        return self._streams / PARTS_PER_S

    async def _read(self, given: Sequence[Any]) -> list[Prompt]:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._model.read, given)

    async def _in_batch(self, prompt: Prompt) -> Any:
        """A prompt's result, or its exception."""
        if self._engine:
            return await self._in_running_batch(self._engine, prompt)
        # Serve closes a batch even while the one before is computed, and then has a queue of small ones. So
        # prompts stay out of it until the model is idle, and enter together.
        self._meters.waits(1)
        try:
            await self._idle.wait()
        finally:
            self._meters.waits(-1)
        return await self._batch(prompt)

    async def _in_running_batch(self, engine: Engine, prompt: Prompt) -> Any:
        began_s = time.perf_counter()
        try:
            pieces = await engine.make(prompt)
        except Exception as error:
            return error
        self._meters.batch(1, time.perf_counter() - began_s)
        self._meters.tokens(len(pieces))
        return whole(pieces)

    async def _batched(self, prompts: list[Prompt]) -> list[Any]:
        self._idle.clear()
        began_s = time.perf_counter()
        try:
            loop = asyncio.get_running_loop()
            results = await loop.run_in_executor(self._worker, self._model.compute, prompts)
            self._meters.batch(len(prompts), time.perf_counter() - began_s)
            return results
        finally:
            self._idle.set()

    def _explain(self, index: int, prompt: Prompt, error: Exception) -> PromptError | Refusal:
        if isinstance(error, PromptError):
            return PromptError(f"prompts.{index}: {error}")
        number = secrets.token_hex(4)
        name = self._model.loaded.name
        log.error("failure %s: %s (seed %s): %s", number, name, prompt.seed, place_of(error))
        return Refusal(
            500,
            "model_failed",
            f"prompts.{index}: {self._model.loaded.name} failed on this prompt (seed {prompt.seed}); "
            f"the endpoint's log tells why, under failure {number}",
            param=f"prompts.{index}",
            kind=SERVER,
        )


def _some(pieces: Iterator[Any], turn_s: float) -> list[Any]:
    """One piece, and those that are made until a turn is over; none where there are no more."""
    until = time.monotonic() + turn_s
    made: list[Any] = []
    for piece in pieces:
        made.append(piece)
        if time.monotonic() >= until:
            break
    return made


def warm(model: Served) -> None:
    """Let a model answer its prompt of all defaults, so that the first caller waits for no start.

    A model whose prompt needs more is left as it is.

    Raises:
        RequestError: It fails on it.
    """
    try:
        (prompt,) = model.read([{}])
    except InvalidConfig:
        return
    (result,) = model.compute([prompt])
    if isinstance(result, PromptError):
        return
    if isinstance(result, Exception):
        raise RequestError(
            f"it fails on the prompt of all defaults ({type(result).__name__}: {result}); mend the plugin, "
            f"and look with genloom generate {model.loaded.name}"
        ) from result
    model.answer(prompt, result)
