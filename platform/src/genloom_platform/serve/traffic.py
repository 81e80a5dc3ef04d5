"""Who answers a request, what is counted of it, and what that says of a version on trial: values alone."""

from collections.abc import Iterable, Mapping, Sequence
from math import floor, inf, log
from typing import Any

from pydantic import Field

from genloom_platform.serve.wanted import Canary
from genloom_platform.settings import Settings

STEP = 1.2
"""A class of latencies ends at so many times where it begins."""
FASTEST_S = 1e-3
CLASSES = 80
"""The last one begins at half an hour."""
QUANTILE = 0.9


class Route(Settings):
    """Which versions answer for a model."""

    model: str
    """The reference that is served, as in `image-vae@champion`."""
    stable: str
    """`name@version` of what answers."""
    canary: str | None = None
    """Of what answers a share on trial."""
    share: float = 0
    shadow: str | None = None
    """Of what is asked as well."""
    shadow_share: float = 0

    @property
    def name(self) -> str:
        """The model's name."""
        return self.stable.partition("@")[0]

    @property
    def versions(self) -> frozenset[str]:
        """All versions in it."""
        return frozenset(filter(None, (self.stable, self.canary, self.shadow)))


class Table(Settings):
    """All routes of an endpoint."""

    generation: int = 0
    """Grows with each change."""
    routes: tuple[Route, ...] = ()

    @property
    def versions(self) -> frozenset[str]:
        """All versions that may be asked."""
        return frozenset[str]().union(*(route.versions for route in self.routes))

    def route(self, model: str) -> Route | None:
        """The route of a name, or of a version that answers, or of one on trial."""
        for route in self.routes:
            if model in (route.name, route.stable):
                return route
        return next((route for route in self.routes if model == route.canary), None)


class Counts(Settings):
    """What a version did since its route last changed."""

    requests: int = 0
    failures: int = 0
    dropped: int = 0
    """Copies that a shadow was not sent, because it had enough."""
    latencies: tuple[int, ...] = ()
    """Answers by the class of their latency."""

    def with_answer(self, latency_s: float) -> "Counts":
        """The counts after one more good answer."""
        place = _class_of(latency_s)
        longer = list(self.latencies) + [0] * (place + 1 - len(self.latencies))
        longer[place] += 1
        return self.model_copy(update={"requests": self.requests + 1, "latencies": tuple(longer)})

    def with_failure(self) -> "Counts":
        """The counts after one more failure."""
        return self.model_copy(update={"requests": self.requests + 1, "failures": self.failures + 1})

    def with_dropped(self) -> "Counts":
        """The counts after a copy that was not sent."""
        return self.model_copy(update={"dropped": self.dropped + 1})

    def latency_s(self, quantile: float = QUANTILE) -> float:
        """The latency that such a share of the answers did not exceed, to within a class; 0 without any."""
        rank, seen = quantile * sum(self.latencies), 0
        for place, number in enumerate(self.latencies):
            seen += number
            if number and seen >= rank:
                return FASTEST_S * STEP**place
        return 0.0


def total(counts: Iterable[Counts]) -> Counts:
    """Counts of several gateways as one."""
    known = list(counts)
    longest = max((len(each.latencies) for each in known), default=0)
    padded = [each.latencies + (0,) * (longest - len(each.latencies)) for each in known]
    return Counts(
        requests=sum(each.requests for each in known),
        failures=sum(each.failures for each in known),
        dropped=sum(each.dropped for each in known),
        latencies=tuple(map(sum, zip(*padded, strict=True))),
    )


class Report(Settings):
    """What a gateway tells of itself."""

    gateway: str
    generation: int
    """Of the table that it goes by."""
    counts: dict[str, Counts] = Field(default_factory=dict)
    """By version."""
    in_flight: dict[str, int] = Field(default_factory=dict)
    """Requests that versions have and have not answered."""


def counted(table: Table, reports: Iterable[Report]) -> dict[str, Counts]:
    """What the versions of a table did, by all gateways that go by it."""
    current = [each for each in reports if each.generation == table.generation]
    return {
        version: total(each.counts[version] for each in current if version in each.counts)
        for version in table.versions
    }


class Answers(list[Any]):
    """One answer for each prompt, and the version that gave them."""

    def __init__(self, answers: Sequence[Any], model: str) -> None:
        super().__init__(answers)
        self.model = model


def falls_on(number: int, share: float) -> bool:
    """Whether the request of a number is one of the share: spread evenly, and met exactly in the long run.

    Args:
        number: How many came before it.
        share: 0 to 1.
    """
    # A share such as 0.05 is no binary fraction: its twentieth multiple may lie a hair below 1.
    return floor((number + 1) * share + 1e-9) > floor(number * share + 1e-9)


def verdict(trial: Canary, canary: Counts, stable: Counts) -> str | None:
    """Why a canary is to be taken back, in words; None where it stays.

    Failures count as soon as there are more of them than `min_requests` requests may have.
    """
    allowed = trial.max_error_rate * max(canary.requests, trial.min_requests)
    if canary.failures > allowed:
        return (
            f"{canary.failures} of its {canary.requests} requests failed, and "
            f"{trial.max_error_rate:.3g} of them may"
        )
    if min(canary.requests, stable.requests) < trial.min_requests:
        return None
    slow, usual = canary.latency_s(), stable.latency_s()
    ratio = slow / usual if usual else inf if slow else 1.0
    # Two latencies of one class may be told as a class apart.
    if ratio > trial.max_latency_ratio * STEP:
        return (
            f"nine of ten of its answers take up to {slow:.3g} s, {ratio:.1f} times as long as the "
            f"{usual:.3g} s of the other version, and {trial.max_latency_ratio:g} times is allowed"
        )
    return None


def shown(route: Route, counts: Mapping[str, Counts]) -> str:
    """A route in one line."""
    said = f"{route.model} → {route.stable}"
    for kind, version, share in (
        ("canary", route.canary, route.share),
        ("shadow", route.shadow, route.shadow_share),
    ):
        if version:
            known = counts.get(version, Counts())
            said += (
                f", {kind} {version} {share:.3g}: {known.requests} requests, {known.failures} failed"
            )
    return said


def _class_of(latency_s: float) -> int:
    if latency_s <= FASTEST_S:
        return 0
    return min(CLASSES - 1, round(log(latency_s / FASTEST_S, STEP)))
