"""Rates and requests at once, by a clock that the test holds."""

import pytest

from genloom.errors import RequestError
from genloom_platform.serve.limits import Denied, Limits, Rate, Usage, enter, leave


def outcomes(limits: Limits, moments: list[float]) -> list[float | None]:
    """For requests at these moments, each ending at once: how long it has to wait; None: it was let in."""
    usage, found = Usage(), []
    for now_s in moments:
        taken = enter(limits, usage, now_s)
        if isinstance(taken, Denied):
            found.append(round(taken.wait_s, 6))
        else:
            found.append(None)
            usage = leave(taken)
    return found


@pytest.mark.parametrize(
    ("rate", "moments", "expected"),
    [
        ("2/s", [0, 0, 0], [None, None, 0.5]),
        ("2/s", [0, 0, 0.5, 0.5], [None, None, None, 0.5]),
        ("2/s", [0, 0, 0.4, 0.5], [None, None, 0.1, None]),
        ("2/s", [0, 0, 100, 100, 100], [None, None, None, None, 0.5]),
        ("1/s", [5, 5.25, 6, 6.999999], [None, 0.75, None, 0.000001]),
        ("60/min", [0.0] * 61, [None] * 60 + [1.0]),
        ("1/h", [0, 1800, 3600], [None, 1800.0, None]),
        ("2/s", [10, 9, 9], [None, None, 0.5]),  # a clock that goes back gives nothing
        ("10/s", [index / 10 for index in range(10_000)], [None] * 10_000),
    ],
)
def test_a_rate_lets_its_number_in_at_once_and_then_one_at_a_time(rate, moments, expected):
    assert outcomes(Limits(rate=Rate.read(rate)), moments) == expected


def test_no_limit_lets_all_in():
    assert outcomes(Limits(), [0.0] * 1000) == [None] * 1000


def test_requests_at_once_are_counted_until_they_end():
    limits, usage = Limits(concurrent=2), Usage()
    first = enter(limits, usage, 0)
    both = enter(limits, first, 0)
    assert both.running == 2
    assert enter(limits, both, 0) == Denied("concurrency", 1.0)
    assert enter(limits, leave(both), 0) == both


def test_a_refusal_for_requests_at_once_costs_nothing_of_the_rate():
    limits = Limits(rate=Rate.read("2/h"), concurrent=1)
    usage = enter(limits, Usage(), 0)
    for _ in range(5):
        assert enter(limits, usage, 0).reason == "concurrency"
    assert enter(limits, leave(usage), 0).running == 1


@pytest.mark.parametrize(("wait_s", "seconds"), [(0.001, 1), (1, 1), (1.2, 2), (59.0001, 60)])
def test_the_time_to_wait_is_told_in_whole_seconds_and_never_too_short(wait_s, seconds):
    assert Denied("rate", wait_s).retry_after_s == seconds


@pytest.mark.parametrize("text", ["10/s", "600/min", "5000/h"])
def test_a_rate_reads_as_it_was_written(text):
    assert str(Rate.read(text)) == text


@pytest.mark.parametrize(
    "text", ["", "10", "10/", "/s", "0/s", "-1/s", "1.5/s", "10/sec", "10 / s", "2000000/s", "10/s\n"]
)
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(RequestError, match="10/s, 600/min or 5000/h"):
        Rate.read(text)
