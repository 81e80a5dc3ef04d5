"""How much a caller may ask for: so many requests in a time, so many at once. Pure: the clock is passed in.

A rate is a bucket of as many tokens as it names, which fills evenly: with `10/s` ten requests may come at
once and then one each 100 ms; with `600/min` six hundred at once and then one each 100 ms. A refused
request takes nothing.

Each gateway process counts by itself. An endpoint has one, so that a limit is what it says; with
several, each grants the whole of it.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from genloom.data import Facts
from genloom.errors import RequestError

PERIODS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
MAX_COUNT = 1_000_000
BUSY_WAIT_S = 1.0
"""When to ask again after too many requests at once: nobody knows when one of them ends."""


class Rate(Facts):
    """So many requests in a time."""

    count: int
    period_s: float

    @classmethod
    def read(cls, text: str) -> "Rate":
        """A rate as a person writes it, as in `10/s`, `600/min`, `5000/h`.

        Raises:
            RequestError: It is none.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,6})/(s|min|h)", text)
        if not match or int(match[1]) > MAX_COUNT:
            raise RequestError(
                f"rate = {text!r}: a rate is a whole number from 1 to {MAX_COUNT} and a time; "
                f"write it as in 10/s, 600/min or 5000/h"
            )
        return cls(count=int(match[1]), period_s=PERIODS_S[match[2]])

    @property
    def words(self) -> str:
        """It as a sentence has it."""
        each = {1.0: "a second", 60.0: "a minute", 3600.0: "an hour"}[self.period_s]
        return f"{self.count:,} {'request' if self.count == 1 else 'requests'} {each}"

    def __str__(self) -> str:
        names = {period_s: name for name, period_s in PERIODS_S.items()}
        return f"{self.count}/{names[self.period_s]}"


class Limits(Facts):
    """What a caller may ask for; None: no limit of its own."""

    rate: Rate | None = None
    concurrent: int | None = None
    """Requests that are being answered at once."""


@dataclass(frozen=True)
class Usage:
    """What a caller has taken. As it stands, for one who has not asked yet."""

    spent: float = 0.0
    """Tokens that are missing from the bucket at `at_s`."""
    at_s: float = 0.0
    """On the clock of whoever calls."""
    running: int = 0
    """Requests that are being answered."""


@dataclass(frozen=True)
class Denied:
    """Why a request has to wait."""

    reason: Literal["rate", "concurrency"]
    wait_s: float

    @property
    def retry_after_s(self) -> int:
        """Whole seconds, as the header Retry-After takes them; never too few."""
        return max(1, math.ceil(self.wait_s))


def enter(limits: Limits, usage: Usage, now_s: float) -> Usage | Denied:
    """What a caller has taken with one request more, or why it may not take it now."""
    if limits.concurrent is not None and usage.running >= limits.concurrent:
        return Denied("concurrency", BUSY_WAIT_S)
    if limits.rate is None:
        return replace(usage, running=usage.running + 1)
    per_s = limits.rate.count / limits.rate.period_s
    spent = max(0.0, usage.spent - per_s * max(0.0, now_s - usage.at_s))
    if spent + 1 > limits.rate.count + 1e-9:  # as many roundings as requests lie between the two
        return Denied("rate", (spent + 1 - limits.rate.count) / per_s)
    return Usage(spent + 1, now_s, usage.running + 1)


def leave(usage: Usage) -> Usage:
    """What a caller has taken once a request of it has ended."""
    return replace(usage, running=usage.running - 1)
