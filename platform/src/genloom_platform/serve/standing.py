"""What each version of an endpoint does, for people and programs who ask how it stands: values alone."""

import time
from collections.abc import Mapping
from typing import Literal

from genloom.data import Facts
from genloom_platform.serve.plan import Condition
from genloom_platform.serve.traffic import Counts, Table

Role = Literal["answers", "canary", "shadow", "none"]


class Standing(Facts):
    """A version of an endpoint, and what it does."""

    version: str
    """`name@version`."""
    model: str
    """The reference that it answers for; empty where it answers nothing yet, or no more."""
    role: Role
    share: float
    """Of the requests to the model: those that it answers, or that a shadow is asked too."""
    state: Literal["starting", "ready", "failed", "ending"]
    why: str
    """Why it does not run, or starts slowly."""
    pool: str | None
    """The pool that it is in; None where it has processes of its own."""
    replicas: int
    """Processes that run now: of the pool, where it is in one."""
    since: str | None
    """When it was started, UTC, ISO 8601; of a pool's, when that was."""
    requests: int
    """Answered since its route last changed."""
    failures: int


def standings(
    table: Table, conditions: Mapping[str, Condition], counts: Mapping[str, Counts]
) -> tuple[Standing, ...]:
    """All versions of an endpoint: those that are asked in the order of the routes, then the others.

    Args:
        table: Who answers.
        conditions: How each version runs.
        counts: What each did since its route last changed.
    """
    rows: list[tuple[str, str, Role, float]] = []
    for route in table.routes:
        rows.append((route.stable, route.model, "answers", 1 - route.share))
        if route.canary:
            rows.append((route.canary, route.model, "canary", route.share))
        if route.shadow:
            rows.append((route.shadow, route.model, "shadow", route.shadow_share))
    asked = {version for version, *_ in rows}
    none: Role = "none"
    rows.extend((version, "", none, 0.0) for version in sorted(conditions.keys() - asked))
    return tuple(_standing(row, conditions.get(row[0]), counts.get(row[0], Counts())) for row in rows)


def uncounted(standing: Standing) -> Standing:
    """The same without its counts, which change all the time."""
    return standing.model_copy(update={"requests": 0, "failures": 0})


def _standing(row: tuple[str, str, Role, float], condition: Condition | None, did: Counts) -> Standing:
    version, model, role, share = row
    known = condition or Condition("starting")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(known.since)) if known.since else None
    return Standing(
        version=version,
        model=model,
        role=role,
        share=share,
        state=known.state,
        why=known.why,
        pool=known.served.pool if known.served else None,
        replicas=known.replicas,
        since=moment,
        requests=did.requests,
        failures=did.failures,
    )
