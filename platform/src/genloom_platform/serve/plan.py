"""From what is wanted and what runs to the next steps: one pure function, `decide`.

A new version starts beside the old one, and answers when it is ready; the old one ends when no gateway
has it in its table and nothing waits for it any more. So no request meets a version that is not there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from genloom_platform.serve.traffic import Report, Route, Table, counted, verdict
from genloom_platform.serve.wanted import Pool, Served

RETRY_S = 60.0
"""After so long a version that could not start is tried again."""
DRAIN_S = 400.0
"""After so long a version ends though requests are under way: their callers have been given up."""


@dataclass(frozen=True)
class Target:
    """A model that is wanted, and the versions that its references mean now."""

    served: Served
    stable: str
    canary: str | None = None
    shadow: str | None = None

    @property
    def trial(self) -> str:
        """What names this trial of a canary: changed in any way, it is another one, that begins anew."""
        return f"{self.canary} {self.served.canary.model_dump_json() if self.served.canary else ''}"


@dataclass(frozen=True)
class Condition:
    """How a version that has been started is."""

    state: Literal["starting", "ready", "failed", "ending"]
    replicas: int = 0
    why: str = ""
    """Of a failure, or of a start that takes long."""
    since: float = 0.0
    """When it was started, in Unix time."""
    served: Served | None = None
    """How; None where that is not known."""


@dataclass(frozen=True)
class Seen:
    """All that a decision rests on."""

    now: float
    """Unix time."""
    targets: Sequence[Target]
    conditions: Mapping[str, Condition]
    """By version."""
    table: Table
    switched_at: float = 0.0
    """When the table became what it is."""
    reports: Sequence[Report] = ()
    """Of the gateways that live."""
    taken_back: Mapping[str, str] = field(default_factory=dict[str, str])
    """Trials that have failed, and why."""


@dataclass(frozen=True)
class Start:
    """Start a version, or give it other settings."""

    version: str
    served: Served

    def __str__(self) -> str:
        return f"{self.version} starts"


@dataclass(frozen=True)
class End:
    """End a version."""

    version: str

    def __str__(self) -> str:
        return f"{self.version} ends"


@dataclass(frozen=True)
class TakeBack:
    """A trial has failed."""

    trial: str
    version: str
    why: str

    def __str__(self) -> str:
        return (
            f"canary {self.version} is taken back: {self.why}; its trial begins anew when it is changed"
        )


@dataclass(frozen=True)
class Switch:
    """Give the gateways another table."""

    table: Table

    def __str__(self) -> str:
        return "; ".join(_shown(route) for route in self.table.routes) or "nothing answers"


Step = Start | End | TakeBack | Switch


def decide(seen: Seen) -> list[Step]:
    """The steps that can be made now."""
    steps: list[Step] = list(_failed_trials(seen))
    taken_back = set(seen.taken_back) | {step.trial for step in steps if isinstance(step, TakeBack)}
    wanted = needed(seen.targets, taken_back)
    steps += [
        Start(version, served)
        for version, served in wanted.items()
        if _differs(seen.conditions.get(version), served)
    ]
    found = (_route(seen, target, wanted, taken_back) for target in seen.targets)
    routes = tuple(route for route in found if route)
    table = seen.table
    if routes != table.routes:
        table = Table(generation=table.generation + 1, routes=routes)
        steps.append(Switch(table))
    kept = seen.table.versions | table.versions
    steps += [
        End(version)
        for version, condition in seen.conditions.items()
        if version not in kept
        and condition.state != "ending"
        and _may_end(seen, version, condition, version in wanted)
    ]
    return steps


def needed(targets: Sequence[Target], taken_back: Collection[str] = ()) -> dict[str, Served]:
    """The versions that must run, and how.

    Args:
        targets: What is wanted.
        taken_back: Trials that have failed.
    """
    found = {target.stable: target.served for target in targets}
    for target in targets:
        replicas = target.served.replicas
        # A trial gets few requests, so it begins with one replica, and grows like the other.
        fewer = replicas.model_copy(update={"min": min(1, replicas.min)})
        tried = target.served.model_copy(update={"replicas": fewer})
        for version in (target.canary if target.trial not in taken_back else None, target.shadow):
            if version:
                found.setdefault(version, tried)
    return found


def _failed_trials(seen: Seen) -> list[TakeBack]:
    counts = counted(seen.table, seen.reports)
    found: list[TakeBack] = []
    for target in seen.targets:
        trial, canary = target.served.canary, target.canary
        route = next((each for each in seen.table.routes if each.model == target.served.model), None)
        if not trial or not canary or not route or route.canary != canary:
            continue
        why = verdict(trial, counts[canary], counts[route.stable])
        condition = seen.conditions.get(canary)
        if condition and condition.state == "failed":
            why = why or f"it does not run any more: {condition.why}"
        if why:
            found.append(TakeBack(target.trial, canary, why))
    return found


def _route(
    seen: Seen, target: Target, wanted: Mapping[str, Served], taken_back: Collection[str]
) -> Route | None:
    """The route of a model now: to the version that is meant when it is ready, until then as before."""
    served = target.served
    before = next((each for each in seen.table.routes if each.model == served.model), None)

    def ready(version: str | None, answers: str | None) -> bool:
        condition = seen.conditions.get(version or "")
        if not version or version not in wanted or condition is None:
            return False
        # One that answers already goes on while its settings change or its replicas are replaced.
        if version == answers:
            return condition.state in ("ready", "starting")
        return condition.state == "ready" and not _differs(condition, wanted[version])

    if ready(target.stable, before and before.stable):
        stable = target.stable
    elif before:
        stable = before.stable
    else:
        return None
    tried, copied = target.canary, target.shadow
    if target.trial in taken_back or tried == stable or not ready(tried, before and before.canary):
        tried = None
    if copied == stable or not ready(copied, before and before.shadow):
        copied = None
    return Route(
        model=served.model,
        stable=stable,
        canary=tried,
        share=served.canary.share if tried and served.canary else 0,
        shadow=copied,
        shadow_share=served.shadow.share if copied and served.shadow else 0,
    )


def _differs(condition: Condition | None, served: Served) -> bool:
    """Whether a version is to be started, or started otherwise."""
    if condition is None:
        return True
    if condition.state == "ending" or condition.served is None:
        return False  # one that ends can be started when it has
    if condition.served.pool != served.pool:
        return False  # it stays where it is: elsewhere it would be missing meanwhile
    return condition.served.room != served.room


def pools_to_start(wanted: Mapping[str, Pool], running: Mapping[str, Pool]) -> dict[str, Pool]:
    """The pools that do not run yet, or otherwise."""
    return {name: pool for name, pool in wanted.items() if running.get(name) != pool}


def pools_to_end(
    wanted: Mapping[str, Pool], running: Mapping[str, Pool], served: Mapping[str, Served]
) -> list[str]:
    """The pools that are not wanted any more, and hold no version that is.

    Args:
        wanted: What is wanted.
        running: What has been started.
        served: How each version was started.
    """
    used = {each.pool for each in served.values()}
    return [name for name in running if name not in wanted and name not in used]


def _may_end(seen: Seen, version: str, condition: Condition, needed: bool) -> bool:
    """Whether a version that is in no table any more can end."""
    if needed:
        return condition.state == "failed" and seen.now - condition.since > RETRY_S
    if condition.state == "failed" or seen.now - seen.switched_at > DRAIN_S:
        return True
    return bool(seen.reports) and all(
        report.generation == seen.table.generation and not report.in_flight.get(version)
        for report in seen.reports
    )


def _shown(route: Route) -> str:
    said = f"{route.model} is answered by {route.stable}"
    if route.canary:
        said += f", {route.share:.3g} of it on trial by {route.canary}"
    if route.shadow:
        said += f", {route.shadow_share:.3g} of it copied to {route.shadow}"
    return said
