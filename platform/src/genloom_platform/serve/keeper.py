"""The keeper: again and again it compares what is wanted with what runs, and makes the next steps (`plan.py`).

It is a small deployment beside the gateway. Where it is killed Serve starts it again, and it goes on by
what the registry, Serve and its memory say; meanwhile the versions answer as before.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayError

from genloom.errors import GenloomError
from genloom_platform.serve import applications, memory, plan, presence
from genloom_platform.serve.dispatch import Known
from genloom_platform.serve.handles import Handles
from genloom_platform.serve.memory import State
from genloom_platform.serve.model import Card
from genloom_platform.serve.plan import Condition, End, Seen, Start, Switch, TakeBack, Target
from genloom_platform.serve.pool import Unfit
from genloom_platform.serve.presence import Announcement
from genloom_platform.serve.sources import Shelf, Source, targets
from genloom_platform.serve.standing import standings
from genloom_platform.serve.traffic import Counts, Report, counted, shown
from genloom_platform.serve.wanted import Pool, Wanted

CPUS = 0.1
TURN_S = 0.5
LOOK_UP_S = 2.0
"""Between two looks into the registry."""
SILENT_S = 15.0
"""A gateway that has not told of itself for so long has ended."""
STUCK_S = 300.0
CARD_WAIT_S = 5.0
"""How long a turn waits for versions to tell what they are."""

log = logging.getLogger("genloom.serve")


@serve.deployment(
    ray_actor_options={"num_cpus": CPUS}, health_check_period_s=2, max_ongoing_requests=64
)
class Keeper:
    """Keeps an endpoint as it is wanted."""

    def __init__(self, wanted: Wanted, shelf: Shelf, said: Announcement | None) -> None:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._wanted, self._shelf, self._said = wanted, shelf, said
        self._memory = self._kept = memory.recall()
        self._sources: dict[str, Source] = {}
        self._targets: list[Target] = []
        self._conditions: dict[str, Condition] = {}
        self._reports: dict[str, tuple[float, Report]] = {}
        self._told: set[str] = set()
        self._presence: presence.Presence | None = None
        self._looked_up = 0.0
        self._handles = Handles(self._pool_of)
        self._asked: dict[str, Any] = {}
        """Versions that were asked what they are."""
        self._unfit: dict[str, Condition] = {}
        """Versions that a pool cannot load."""
        self._turned = time.monotonic()
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def check_health(self) -> None:
        """Raise where it does nothing any more; Serve then starts it again."""
        if time.monotonic() - self._turned > STUCK_S:
            raise RuntimeError(f"no turn of the keeper ended for {STUCK_S:.0f} s")

    async def exchange(self, report: Report) -> Known:
        """Take what a gateway tells, and tell it what it may go by."""
        self._reports[report.gateway] = time.monotonic(), report
        now, conditions = self._kept, self._conditions
        cards = {version: now.cards[version] for version in now.table.versions}
        replicas = {name: each.replicas for name, each in conditions.items()}
        pools = {name: each.pool for name, each in now.served.items() if each.pool is not None}
        return Known(now.table, cards, replicas, pools)

    def _pool_of(self, version: str) -> str | None:
        served = self._memory.served.get(version)
        return served.pool if served else None

    def _state(self) -> State:
        """How the endpoint is."""
        now, conditions, wanted = self._kept, self._conditions, self._targets
        reports = list(self._reports.values())
        answering = {(route.model, route.stable) for route in now.table.routes}
        failed = {name: each for name, each in conditions.items() if each.state == "failed"}
        return State(
            ready=bool(wanted)
            and any(each.generation == now.table.generation for _, each in reports)
            and all((each.served.model, each.stable) in answering for each in wanted),
            faults=tuple(f"{name} cannot be served: {each.why}" for name, each in failed.items()),
            slow=tuple(
                f"{name}: {each.why}"
                for name, each in conditions.items()
                if each.state == "starting" and each.why
            ),
            routes=self._routes(),
            news=now.news,
        )

    def _keep(self) -> None:
        while True:
            try:
                self._turn()
            except Exception:
                # Whatever it was, what runs goes on; and the next turn begins with what is so then.
                log.exception("a turn of the keeper failed")
            self._turned = time.monotonic()
            time.sleep(TURN_S)

    def _turn(self) -> None:
        self._look_up()
        conditions = applications.conditions(self._memory.served)
        self._learn_cards(conditions)
        conditions |= {version: each for version, each in self._unfit.items() if version in conditions}
        # A version of which nothing is known yet cannot be described to callers, so it is not ready.
        for version, condition in conditions.items():
            if condition.state == "ready" and version not in self._memory.cards:
                conditions[version] = Condition("starting", condition.replicas, "", condition.since)
        self._conditions = conditions
        now = time.monotonic()
        self._reports = {
            name: (at, each) for name, (at, each) in self._reports.items() if now - at < SILENT_S
        }
        seen = Seen(
            now=time.time(),
            targets=self._targets,
            conditions=conditions,
            table=self._memory.table,
            switched_at=self._memory.switched_at,
            reports=[report for _, report in self._reports.values()],
            taken_back=self._memory.taken_back,
        )
        if self._targets:
            steps = plan.decide(seen)
            self._remember(steps)
            self._act(steps)
        self._tell_faults(conditions)
        self._commit()
        memory.tell(self._state())

    def _look_up(self) -> None:
        """What the references mean now; where that cannot be told, what they meant before."""
        if self._targets and time.monotonic() - self._looked_up < LOOK_UP_S:
            return
        try:
            self._targets, self._sources = targets(self._wanted, self._shelf)
        except (GenloomError, OSError) as error:
            self._say(f"cannot look the models up, and goes on with what is served: {error}")
            return
        finally:
            self._looked_up = time.monotonic()
        if not self._memory.served:
            # What `launch` has started beside this; whatever does not run yet is started all the same.
            served = plan.needed(self._targets)
            self._memory = self._memory.changed(served=served, pools=self._wanted.pools)

    def _learn_cards(self, conditions: dict[str, Condition]) -> None:
        """Ask what versions are that run since; a pool loads a version when it is asked."""
        cards, until = dict(self._memory.cards), time.monotonic() + CARD_WAIT_S
        ready = {version for version, each in conditions.items() if each.state == "ready"}
        new = ready - cards.keys() - self._unfit.keys()
        self._asked = {version: each for version, each in self._asked.items() if version in new}
        for version in sorted(new - self._asked.keys()):
            self._asked[version] = self._handles[version].card.remote()
        for version, asked in list(self._asked.items()):
            try:
                card: Card | Unfit = asked.result(timeout_s=max(0, until - time.monotonic()))
            except TimeoutError:
                continue  # it goes on being asked
            except RayError as error:
                log.warning("%s does not tell what it is: %s", version, type(error).__name__)
            else:
                if isinstance(card, Unfit):
                    self._unfit[version] = Condition(
                        "failed", why=card.why, since=time.time(), served=self._memory.served[version]
                    )
                else:
                    cards[version] = card
            del self._asked[version]
        if cards != self._memory.cards:
            self._memory = self._memory.changed(cards=cards)

    def _remember(self, steps: Sequence[plan.Step]) -> None:
        now = self._memory
        for step in steps:
            if isinstance(step, TakeBack):
                now = now.changed(taken_back=now.taken_back | {step.trial: step.why})
            elif isinstance(step, Switch):
                now = now.changed(table=step.table, switched_at=time.time())
            elif isinstance(step, Start):
                now = now.changed(served=now.served | {step.version: step.served})
            else:
                gone = step.version
                cards = {name: card for name, card in now.cards.items() if name != gone}
                served = {name: each for name, each in now.served.items() if name != gone}
                now = now.changed(cards=cards, served=served)
            log.info("%s", step)
            now = now.with_news(str(step))
        self._memory = now

    def _act(self, steps: Sequence[plan.Step]) -> None:
        """Remembered first: a step that was made and forgotten would be made again, and that is all."""
        self._commit()
        wanted, running = self._wanted.pools, dict(self._memory.pools)
        for step in steps:
            if isinstance(step, End):
                self._end(step.version, running)
        needed = {step.version: step.served for step in steps if isinstance(step, Start)}
        pools = plan.pools_to_start(wanted, running)
        starts = applications.applications(needed, self._sources, pools, self._shelf)
        if starts:
            applications.start(starts)
        ended = plan.pools_to_end(wanted, running, self._memory.served)
        for name in ended:
            applications.end_pool(name)
        kept = {name: pool for name, pool in (running | pools).items() if name not in ended}
        self._memory = self._memory.changed(pools=kept)

    def _end(self, version: str, pools: dict[str, Pool]) -> None:
        condition = self._conditions[version]
        pool = condition.served.pool if condition.served else None
        if pool is None:
            applications.end(version)
        elif self._unfit.pop(version, None) is None and condition.state == "failed":
            pools.pop(pool, None)  # it is the pool that does not run: it is started again

    def _tell_faults(self, conditions: dict[str, Condition]) -> None:
        for version, condition in conditions.items():
            if condition.why:
                what = "cannot be served" if condition.state == "failed" else "does not start"
                self._say(f"{version} {what}: {condition.why}")

    def _say(self, text: str) -> None:
        """Tell of something, once."""
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)
            self._memory = self._memory.with_news(text)

    def _commit(self) -> None:
        """Keep the memory, tell it in the store, and let the gateways see it."""
        if self._memory != self._kept:
            memory.keep(self._memory)
        if self._said and self._memory.table.routes:
            said = self._said.model_copy(
                update={
                    "models": self._models(),
                    "routes": self._routes(),
                    "versions": standings(self._memory.table, self._conditions, self._counts()),
                    "news": tuple(text for _, text in self._memory.news[-10:]),
                }
            )
            if self._presence:
                self._presence.tell(said)
            else:
                self._presence = presence.announce(said, self._memory.token, self._memory.since)
        self._kept = self._memory

    def _models(self) -> tuple[str, ...]:
        """The versions that are asked, those that answer first."""
        table = self._memory.table
        stable = dict.fromkeys(route.stable for route in table.routes)
        return tuple(stable | dict.fromkeys(sorted(table.versions)))

    def _counts(self) -> dict[str, Counts]:
        return counted(self._memory.table, (each for _, each in self._reports.values()))

    def _routes(self) -> tuple[str, ...]:
        counts = self._counts()
        failed = (
            f"canary {target.canary} of {target.served.model} is taken back: {why}"
            for target in self._targets
            if (why := self._memory.taken_back.get(target.trial))
        )
        return (*(shown(route, counts) for route in self._memory.table.routes), *failed)
