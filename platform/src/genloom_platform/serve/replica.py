"""The deployments of an endpoint: one process for each model, and one, the gateway, for the routes.

A request goes from Serve's HTTP proxy to the Gateway (`app.py`), and from there to a ModelReplica,
where it shares batches with others (`model.py`).
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from genloom import LoadedModel, Prompt
from genloom.errors import GenloomError, InvalidConfig, PromptError
from genloom_platform.serve.app import create_app
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.keyring import LOOK_S, Ring
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.meters import ModelMeters, RequestMeters
from genloom_platform.serve.model import Card, ServedGenerator, served
from genloom_platform.serve.presence import Announcement, announce
from genloom_platform.serve.seen import log_requests, place_of
from genloom_platform.store import Store
from genloom_platform.train.background import repeating

MAX_BATCH = 64
"""Prompts that a model is given at once."""
BATCH_WAIT_S = 0.002
"""How long the first prompt of a batch waits for others."""
TURN_S = 0.02
"""How long a stream computes before batches and other streams have their turn; the pieces that it makes
meanwhile are sent together. Its first piece is sent alone."""
READERS = 2
"""Requests whose prompts are read at once: decoding a picture takes up to 500 MiB."""
GATEWAY_CPUS = 0.1
MODEL_CPUS = 1.0
CAUSE = "cannot load the model: "
"""After it stands, to the end of the line, why a model cannot be loaded; Serve hands on a traceback."""

log = logging.getLogger("genloom.serve")


# All that the gateway lets through may share batches. A model that cannot be loaded is told at once.
@serve.deployment(
    ray_actor_options={"num_cpus": MODEL_CPUS},
    max_ongoing_requests=MAX_REQUESTS,
    max_constructor_retry_count=1,
)
class ModelReplica:
    """One model in a process of its own."""

    def __init__(self, load: Callable[[], LoadedModel], created: int, run: str | None) -> None:
        import torch

        torch.set_num_threads(1)
        try:
            self._model = served(load(), created, run)
        except Exception as error:
            what = str(error) if isinstance(error, GenloomError) else f"{type(error).__name__}: {error}"
            raise RuntimeError(CAUSE + " ".join(what.split())) from error
        self._meters = ModelMeters(self._model.loaded.name)
        self._worker = ThreadPoolExecutor(1, "model")
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._idle = asyncio.Event()
        self._idle.set()

    async def card(self) -> Card:
        """What to tell of the model."""
        return await asyncio.to_thread(self._model.card)

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

    async def stream(self, given: Any) -> AsyncIterator[dict[str, Any] | Exception]:
        """The sample of one prompt in pieces, as `app.Backend.stream` gives them; an error ends them."""
        try:
            (prompt,) = await self._read([given])
        except InvalidConfig as error:
            yield error
            return
        model = cast(ServedGenerator, self._model)
        pieces = model.pieces(prompt)
        loop = asyncio.get_running_loop()
        try:
            first = await loop.run_in_executor(self._worker, _some, pieces, 0.0)
            yield model.head(prompt) | {"pieces": first}
            while made := await loop.run_in_executor(self._worker, _some, pieces, TURN_S):
                yield {"pieces": made}
        except Exception as error:
            yield self._explain(0, prompt, error)
        finally:
            # Also where the caller has gone: what was computing is then done first, on the same thread.
            self._worker.submit(cast(Any, pieces).close)

    async def _read(self, given: Sequence[Any]) -> list[Prompt]:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._model.read, given)

    async def _in_batch(self, prompt: Prompt) -> Any:
        # Serve closes a batch after its wait even while the one before is computed, and then has a
        # queue of small ones. So prompts stay out of it until the model is idle, and enter together.
        self._meters.waits(1)
        try:
            await self._idle.wait()
        finally:
            self._meters.waits(-1)
        return await self._batch(prompt)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _batch(self, prompts: list[Prompt]) -> list[Any]:
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


class RayBackend:
    """The models of an endpoint, reached through Serve's handles."""

    def __init__(self, handles: dict[str, DeploymentHandle], cards: Sequence[Card]) -> None:
        self._handles = handles
        self._cards = cards

    def models(self) -> Sequence[Card]:
        """What is served."""
        return self._cards

    async def answer(self, model: str, prompts: Sequence[Any]) -> list[Any]:
        """See `app.Backend`."""
        try:
            result = await self._handles[model].answer.remote(prompts)
        except RayActorError:
            raise _stopped(model) from None
        if isinstance(result, Exception):
            raise result
        return result

    async def stream(self, model: str, prompt: Any) -> AsyncGenerator[dict[str, Any]]:
        """See `app.Backend`."""
        handle = cast(Any, self._handles[model]).options(stream=True)
        parts = handle.stream.remote(prompt)
        try:
            async for part in parts:
                if isinstance(part, Exception):
                    raise part
                yield part
        except RayActorError:
            raise _stopped(model) from None
        finally:
            parts.cancel()  # where the caller has gone, the replica stops; else it does nothing


def _stopped(model: str) -> Refusal:
    message = f"{model} stopped meanwhile and is started again; ask again in some seconds"
    headers = {"Retry-After": "5"}
    return Refusal(503, "model_stopped", message, kind=SERVER, headers=headers)


@dataclass(frozen=True)
class Door:
    """Whom the gateway lets in."""

    lock: Lock | None = None
    """Of the environment's key."""
    store: str | None = None
    """The URL of the store whose keys count too. Where there is neither, no key is asked for."""
    origins: tuple[str, ...] = ()
    """Pages in browsers that may ask."""


# More requests than the guard lets through, so that it is the guard who refuses.
@serve.deployment(ray_actor_options={"num_cpus": GATEWAY_CPUS}, max_ongoing_requests=4 * MAX_REQUESTS)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class Gateway:
    """The routes."""

    def __init__(self, door: Door, said: Announcement | None, *models: DeploymentHandle) -> None:
        self._door = door
        self._models = models
        self._announced = announce(said) if said else None
        self._ring = Ring(Store(door.store)) if door.store else None
        if self._ring:
            self._ring.look()
            self._looking = repeating(self._ring.look, LOOK_S)
            self._looking.__enter__()
        log_requests()

    async def __serve_build_asgi_app__(self) -> FastAPI:
        cards = await asyncio.gather(*(model.card.remote() for model in self._models))
        handles = {card.full_name: model for card, model in zip(cards, self._models, strict=True)}
        return create_app(
            RayBackend(handles, cards),
            self._door.lock,
            self._ring,
            origins=self._door.origins,
            meters=RequestMeters(),
            names_answers=False,
        )
