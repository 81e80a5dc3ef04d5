"""Requests to versions, in the gateway: who answers by the table, on trial or as a shadow, and the counts.

It knows neither HTTP nor Ray.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from genloom.errors import InvalidConfig, PromptError, UnknownName
from genloom_platform.serve.coalesce import Pump
from genloom_platform.serve.errors import SERVER, Refusal, from_name
from genloom_platform.serve.model import Card, Pinned
from genloom_platform.serve.traffic import Answers, Counts, Report, Route, Table, falls_on

START_WAIT_S = 120.0
"""How long a request waits for a version of which nothing runs: one that was scaled to zero."""
LOOK_S = 1.0
CANARY_TIMEOUT_S = 60.0
"""After so long a request on trial is asked of the other version."""
SHADOWS = 32
"""Copies that a shadow has not answered, beyond which it is sent no more."""

log = logging.getLogger("genloom.serve")


@dataclass(frozen=True)
class Known:
    """What the keeper tells a gateway."""

    table: Table
    cards: Mapping[str, Card] = field(default_factory=dict[str, Card])
    """By version."""
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many run now, by version."""
    pools: Mapping[str, str] = field(default_factory=dict[str, str])
    """The pool of each version that is in one."""


class Dispatch:
    """What a gateway does with requests.

    Args:
        call: Sends several requests to a version; see `coalesce.Call`.
    """

    def __init__(self, call: Callable[[str, list[Sequence[Any]]], Awaitable[list[Any]]]) -> None:
        self._call = call
        self._name = secrets.token_hex(8)
        self._known = Known(Table())
        self._cards: tuple[Card, ...] = ()
        self._pumps: dict[str, Pump] = {}
        self._counts: dict[str, Counts] = {}
        self._in_flight: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        self._copies: set[asyncio.Task[None]] = set()

    def update(self, known: Known) -> None:
        """Go by what the keeper says now; what is counted of routes that change begins anew."""
        before = set(self._known.table.routes)
        for route in known.table.routes:
            if route not in before:
                for version in route.versions:
                    self._counts.pop(version, None)
        if known.table != self._known.table:
            stable = dict.fromkeys(route.stable for route in known.table.routes)
            self._cards = tuple(known.cards[version] for version in stable)
        self._known = known
        for version in self._pumps.keys() - known.table.versions:
            if not self._in_flight[version]:
                del self._pumps[version]
                del self._in_flight[version]

    def report(self) -> Report:
        """What to tell the keeper."""
        return Report(
            gateway=self._name,
            generation=self._known.table.generation,
            counts=self._counts,
            in_flight={version: number for version, number in self._in_flight.items() if number},
        )

    def models(self) -> Sequence[Card]:
        """The versions that answer; the same object until they change."""
        return self._cards

    def pool(self, version: str) -> str | None:
        """The pool that a version is in; None where it has processes of its own."""
        return self._known.pools.get(version)

    async def answer(self, model: str, prompts: Sequence[Any]) -> Answers:
        """One answer for each prompt.

        A request that a canary cannot answer is asked of the other version, so that no caller meets
        what is wrong with it.

        Args:
            model: `name@version`; where it is no `Pinned`, one on trial may answer in its place.
            prompts: As they came.

        Raises:
            InvalidConfig: Prompts are wrong.
            PromptError: The model cannot take one of them.
            Refusal: There is no answer for another reason.
        """
        route = self._route(model)
        if isinstance(model, Pinned):
            return await self._ask(model, prompts)
        number = self._numbers[route.model]
        self._numbers[route.model] += 1
        answers = await self._answer(route, number, prompts)
        # Afterwards: what a shadow refuses or fails on then is a difference, and not the caller's mistake.
        if route.shadow and falls_on(number, route.shadow_share):
            self._copy(route.shadow, prompts)
        return answers

    async def _answer(self, route: Route, number: int, prompts: Sequence[Any]) -> Answers:
        if route.canary and falls_on(number, route.share):
            try:
                async with asyncio.timeout(CANARY_TIMEOUT_S):
                    return await self._ask(route.canary, prompts)
            except (InvalidConfig, PromptError) as error:
                # Where the other one takes these prompts, it is the canary that is wrong.
                answers = await self._ask(route.stable, prompts)
                self._failed(route.canary, error)
                return answers
            except TimeoutError as error:
                self._failed(route.canary, error)
            except Exception:
                log.warning("%s on trial gave no answer; %s is asked", route.canary, route.stable)
        return await self._ask(route.stable, prompts)

    def choose(self, model: str) -> str:
        """The version that answers where an answer cannot be asked for twice: a stream."""
        route = self._route(model)
        if isinstance(model, Pinned):
            return model
        if not route.canary:
            return route.stable
        number = self._numbers[route.model]
        self._numbers[route.model] += 1
        return route.canary if falls_on(number, route.share) else route.stable

    @contextmanager
    def using(self, version: str) -> Generator[None]:
        """Keep a version from being ended meanwhile."""
        self._in_flight[version] += 1
        try:
            yield
        finally:
            self._in_flight[version] -= 1

    @contextmanager
    def asking(self, version: str) -> Generator[None]:
        """The same, and count whether it answers, and how late."""
        started = time.monotonic()
        with self.using(version):
            try:
                yield
            except (InvalidConfig, PromptError):
                raise
            except Exception as error:
                if not isinstance(error, Refusal) or error.status >= 500:
                    self._failed(version, error)
                raise
        counts = self._counts.get(version, Counts())
        self._counts[version] = counts.with_answer(time.monotonic() - started)

    def _route(self, model: str) -> Route:
        table = self._known.table
        if route := table.route(model):
            return route
        if not isinstance(model, Pinned) and (route := table.route(model.partition("@")[0])):
            return route  # it was replaced since it was looked up
        raise from_name(UnknownName("model", model, [route.name for route in table.routes]))

    async def _ask(self, version: str, prompts: Sequence[Any]) -> Answers:
        """A version's answers, counted."""
        with self.asking(version):
            return Answers(await self._awaited(version, prompts), version)

    async def _awaited(self, version: str, prompts: Sequence[Any]) -> list[Any]:
        """A version's answers; where none of it runs and none comes up, the caller is told."""
        asked = asyncio.ensure_future(self._pump(version).ask(prompts))
        asleep_s = 0.0
        try:
            while not (await asyncio.wait({asked}, timeout=LOOK_S))[0]:
                asleep_s = 0 if self._replicas(version) else asleep_s + LOOK_S
                if asleep_s >= START_WAIT_S:
                    message = (
                        f"{version} is being started, which takes long; ask again in half a minute"
                    )
                    headers = {"Retry-After": "30"}
                    raise Refusal(503, "model_starting", message, kind=SERVER, headers=headers)
            return asked.result()
        finally:
            asked.cancel()

    def _copy(self, version: str, prompts: Sequence[Any]) -> None:
        """Ask a shadow, for its counts alone."""
        if len(self._copies) >= SHADOWS:
            self._counts[version] = self._counts.get(version, Counts()).with_dropped()
            return

        async def ask() -> None:
            try:
                async with asyncio.timeout(CANARY_TIMEOUT_S):
                    await self._ask(version, prompts)
            except (TimeoutError, InvalidConfig, PromptError) as error:
                self._failed(version, error)
            except Exception:
                log.debug("shadow %s gave no answer", version)  # counted by `_ask`

        task = asyncio.create_task(ask())
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    def _failed(self, version: str, error: Exception) -> None:
        self._counts[version] = self._counts.get(version, Counts()).with_failure()
        log.warning("%s failed: %s", version, type(error).__name__)

    def _pump(self, version: str) -> Pump:
        if version not in self._pumps:
            self._pumps[version] = Pump(
                version,
                lambda requests: self._call(version, requests),
                lambda: self._replicas(version),
                alone=version in self._known.cards and self._known.cards[version].running,
            )
        return self._pumps[version]

    def _replicas(self, version: str) -> int:
        return self._known.replicas.get(version, 0)
