"""Several models in one process: each is loaded when it is asked for, and put away for another one.

Serve's own multiplexing keeps the models that a replica holds, puts the one away that was not asked for the
longest time, and sends a request to a replica that holds its model, where there is one.
"""

import asyncio
import gc
import logging
import secrets
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from ray import serve

from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.meters import PoolMeters
from genloom_platform.serve.model import Card
from genloom_platform.serve.replica import CAUSE, HEALTH_S, ModelReplica
from genloom_platform.serve.scaling import REQUESTS
from genloom_platform.serve.seen import place_of
from genloom_platform.serve.sources import Shelf
from genloom_platform.serve.speed import Speed

log = logging.getLogger("genloom.serve")


@dataclass(frozen=True)
class Unfit:
    """A version cannot be loaded."""

    why: str


@dataclass(eq=False)
class Held:
    """A model that is loaded. Serve keeps it, and each request that it answers; it ends with the last of them."""

    replica: Any
    """A `ModelReplica`."""


@serve.deployment(
    max_ongoing_requests=MAX_REQUESTS, max_constructor_retry_count=1, health_check_period_s=HEALTH_S
)
class ModelPool:
    """The models of a pool, in a process that holds some of them. It answers as `ModelReplica` does."""

    def __init__(self, name: str, shelf: Shelf, hold: int, speed: Speed) -> None:
        async def load(version: str) -> Held:
            return await asyncio.to_thread(self._loaded, version)

        self._shelf, self._speed = shelf, speed
        self._held: Callable[[str], Awaitable[Held]] = cast(
            Any, serve.multiplexed(load, max_num_models_per_replica=hold)
        )
        self._meters = PoolMeters(name)
        self._requests = 0

    def record_autoscaling_stats(self) -> dict[str, float]:
        """See `ModelReplica`."""
        return {REQUESTS: self._requests}

    async def card(self) -> Card | Unfit:
        """What to tell of the model; why there is nothing to tell where it cannot be loaded."""
        try:
            held = await self._asked_for()
        except Exception as error:
            text = str(error) or type(error).__name__
            return Unfit(text.rpartition(CAUSE)[2])
        return await held.replica.card()

    async def answer_many(self, requests: Sequence[Sequence[Any]]) -> list[Any]:
        """See `ModelReplica`."""
        with self._counted(len(requests)):
            try:
                held = await self._asked_for()
            except Exception as error:
                return [self._missing(error)] * len(requests)
            return await held.replica.answer_many(requests)

    async def settle(self, given: Sequence[Any]) -> Any:
        """See `ModelReplica`."""
        try:
            held = await self._asked_for()
        except Exception as error:
            return self._missing(error)
        return await held.replica.settle(given)

    async def stream(self, given: Any) -> AsyncGenerator[dict[str, Any] | Exception]:
        """See `ModelReplica`."""
        with self._counted(1):
            try:
                held = await self._asked_for()
            except Exception as error:
                yield self._missing(error)
                return
            async with aclosing(held.replica.stream(given)) as parts:
                async for part in parts:
                    yield part

    async def _asked_for(self) -> Held:
        """The model that this request is for."""
        # A caller who goes away must not end the loading: others may wait for it.
        return await asyncio.shield(asyncio.ensure_future(self._held(serve.get_multiplexed_model_id())))

    def _loaded(self, version: str) -> Held:
        gc.collect()  # what was put away may lie in cycles still
        began_s = time.perf_counter()
        source = self._shelf.find(version)
        kind = cast(Any, ModelReplica).func_or_class
        held = Held(kind(source.load, source.created, source.run, self._speed))
        weakref.finalize(held, self._put_away, version, held.replica)
        self._meters.loaded(version, time.perf_counter() - began_s)
        return held

    def _put_away(self, version: str, replica: Any) -> None:
        replica.put_away()
        self._meters.put_away(version)

    @contextmanager
    def _counted(self, count: int) -> Generator[None]:
        self._requests += count
        try:
            yield
        finally:
            self._requests -= count

    @staticmethod
    def _missing(error: Exception) -> Refusal:
        version, number = serve.get_multiplexed_model_id(), secrets.token_hex(4)
        log.error("failure %s: %s is not loaded: %s", number, version, place_of(error))
        message = (
            f"{version} was put away, and cannot be loaded again now; ask again in half a minute; the "
            f"endpoint's log tells why, under failure {number}"
        )
        headers = {"Retry-After": "30"}
        return Refusal(503, "model_not_loaded", message, kind=SERVER, headers=headers)
