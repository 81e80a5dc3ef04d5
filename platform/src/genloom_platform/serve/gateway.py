"""The gateway: the routes, in a process of their own. It asks the keeper what it may go by."""

import asyncio
import logging

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle

from genloom_platform.serve.app import create_app
from genloom_platform.serve.callers import Door
from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.jobs.desk import Desk
from genloom_platform.serve.keyring import LOOK_S, Ring
from genloom_platform.serve.meters import RequestMeters
from genloom_platform.serve.presence import Announcement
from genloom_platform.serve.replica import RayBackend
from genloom_platform.serve.seen import log_requests
from genloom_platform.store import Store
from genloom_platform.train.background import repeating

CPUS = 0.1
EXCHANGE_S = 0.5
"""Between two talks with the keeper."""
EXCHANGE_TIMEOUT_S = 10.0

log = logging.getLogger("genloom.serve")


# More requests than the guard lets through, so that it is the guard who refuses.
@serve.deployment(ray_actor_options={"num_cpus": CPUS}, max_ongoing_requests=4 * MAX_REQUESTS)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class Gateway:
    """The routes. While the keeper is away it goes on by what it knows."""

    def __init__(self, door: Door, said: Announcement | None, keeper: DeploymentHandle) -> None:
        self._door, self._said = door, said
        self._ring = Ring(Store(door.store)) if door.store else None
        if self._ring:
            self._ring.look()
            self._looking = repeating(self._ring.look, LOOK_S)
            self._looking.__enter__()
        log_requests()
        self._keeper = keeper

    async def __serve_build_asgi_app__(self) -> FastAPI:
        self._backend = RayBackend()
        # One that was started again must not answer that nothing is served.
        while not await self._exchange():
            await asyncio.sleep(EXCHANGE_S)
        self._exchanging = asyncio.create_task(self._exchange_again_and_again())
        said = self._said
        desk = Desk(Store(said.store), said.url, self._backend) if said else None
        return create_app(
            self._backend,
            self._door.lock,
            self._ring,
            desk,
            origins=self._door.origins,
            meters=RequestMeters(),
            names_answers=False,
        )

    async def _exchange_again_and_again(self) -> None:
        while True:
            before = self._backend.dispatch.report().generation
            await self._exchange()
            if self._backend.dispatch.report().generation == before:
                await asyncio.sleep(EXCHANGE_S)  # else the keeper hears at once that the table is known

    async def _exchange(self) -> bool:
        """Tell the keeper what was seen, and go by what it answers; false where it does not answer."""
        dispatch = self._backend.dispatch
        response = self._keeper.exchange.remote(dispatch.report())
        try:
            async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                dispatch.update(await response)
        except (RayError, TimeoutError) as error:
            response.cancel()
            log.warning("the keeper does not answer: %s", type(error).__name__)
            return False
        return True
