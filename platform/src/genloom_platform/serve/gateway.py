"""The gateway: the routes, in a process of their own that listens. It asks the keeper what it may go by."""

import asyncio
import logging

from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from genloom_platform.serve.app import create_app
from genloom_platform.serve.backend import RayBackend
from genloom_platform.serve.callers import Door
from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.ingress import named_by_serve
from genloom_platform.serve.jobs.desk import Desk
from genloom_platform.serve.keyring import LOOK_S, Ring
from genloom_platform.serve.listener import DRAIN_S, Address, Listener
from genloom_platform.serve.meters import RequestMeters
from genloom_platform.serve.presence import Announcement
from genloom_platform.serve.replica import CAUSE, HEALTH_S
from genloom_platform.serve.seen import log_requests
from genloom_platform.store import Store
from genloom_platform.train.background import repeating

HEAD = "node:__internal_head__"
"""Ray's resource of the cluster's head, whose address callers know."""
EXCHANGE_S = 0.5
"""Between two talks with the keeper."""
EXCHANGE_TIMEOUT_S = 10.0

log = logging.getLogger("genloom.serve")


class Routes:
    """The app of a gateway, which goes by what the keeper says; while that is away, by what it knows."""

    def __init__(self, door: Door, said: Announcement | None, keeper: DeploymentHandle) -> None:
        self._keeper = keeper
        ring = Ring(Store(door.store)) if door.store else None
        if ring:
            ring.look()
            self._looking = repeating(ring.look, LOOK_S)
            self._looking.__enter__()
        log_requests()
        self._backend = RayBackend()
        desk = Desk(Store(said.store), said.url, self._backend) if said else None
        self.app = create_app(
            self._backend, door.lock, ring, desk, origins=door.origins, meters=RequestMeters()
        )

    async def begin(self) -> None:
        """Ask the keeper from now on; returns when it has answered."""
        # One that was started again must not answer that nothing is served.
        while not await self._exchange():
            await asyncio.sleep(EXCHANGE_S)
        self._exchanging = asyncio.create_task(self._exchange_again_and_again())

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


# As Serve's proxy it takes no share of the head's processors, which may have none to give.
AT_HEAD = {"num_cpus": 0, "resources": {HEAD: 0.001}}


@serve.deployment(
    ray_actor_options=AT_HEAD,
    max_constructor_retry_count=1,
    health_check_period_s=HEALTH_S,
    graceful_shutdown_timeout_s=2 * DRAIN_S,
)
class Gateway:
    """The routes, in a process that callers reach without another one between."""

    async def __init__(
        self, at: Address, door: Door, said: Announcement | None, keeper: DeploymentHandle
    ) -> None:
        routes = await asyncio.to_thread(Routes, door, said, keeper)
        try:
            self._listener = Listener(routes.app, at)
        except OSError as error:
            raise RuntimeError(
                f"{CAUSE}cannot listen on {at.host}:{at.port}: {error.strerror}"
            ) from None
        await routes.begin()
        self._routes = routes
        await self._listener.begin()

    async def __del__(self) -> None:
        """End it, where Serve does: requests under way are answered first."""
        await self._listener.end()


# More requests than the guard lets through, so that it is the guard who refuses.
@serve.deployment(
    ray_actor_options=AT_HEAD,
    max_constructor_retry_count=1,
    health_check_period_s=HEALTH_S,
    max_ongoing_requests=4 * MAX_REQUESTS,
)
@serve.ingress()  # pyright: ignore[reportUntypedClassDecorator]
class FrontedGateway:
    """The routes behind HAProxy (`ingress.py`), which Serve sends to whatever serves an app."""

    def __init__(self, door: Door, said: Announcement | None, keeper: DeploymentHandle) -> None:
        self._given = door, said, keeper

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        self._routes = await asyncio.to_thread(Routes, *self._given)
        await self._routes.begin()
        return named_by_serve(self._routes.app)
