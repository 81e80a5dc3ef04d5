"""Who answers a request, and what the counts say of a version on trial."""

import pytest

from genloom_platform.serve import traffic
from genloom_platform.serve.traffic import Counts, Route, Table
from genloom_platform.serve.wanted import Canary

TRIAL = Canary(version="a@2", share=0.05, max_error_rate=0.02, max_latency_ratio=2, min_requests=50)


def counts(answers: int, latency_s: float = 0.01, failures: int = 0) -> Counts:
    made = Counts()
    for _ in range(answers):
        made = made.with_answer(latency_s)
    for _ in range(failures):
        made = made.with_failure()
    return made


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 1 / 3, 0.5, 0.95, 1.0])
def test_a_share_is_met_and_spread(share):
    fell = [traffic.falls_on(number, share) for number in range(3000)]
    assert abs(sum(fell) - 3000 * share) <= 1
    in_a_row = [sum(fell[start : start + 100]) for start in range(0, 2900, 7)]
    assert max(in_a_row) - min(in_a_row) <= 1


@pytest.mark.parametrize(
    ("canary", "stable", "said"),
    [
        (counts(1000), counts(1000), None),
        (counts(0), counts(1000), None),
        (counts(10, failures=1), counts(1000), None),  # one of the fifty to come may fail
        (counts(0, failures=2), counts(1000), "2 of its 2 requests failed"),
        (counts(50, failures=2), counts(0), "2 of its 52 requests failed"),
        (counts(980, failures=20), counts(1000), None),
        (counts(979, failures=21), counts(1000), "21 of its 1000 requests failed"),
        (counts(49, 1.0), counts(1000), None),
        (counts(50, 1.0), counts(49), None),
        (counts(50, 1.0), counts(1000), "times as long"),
        (counts(50, 0.019), counts(1000), None),
        (counts(50, 0.001), counts(1000), None),
    ],
)
def test_a_canary_stays_until_it_fails_or_is_slow(canary, stable, said):
    why = traffic.verdict(TRIAL, canary, stable)
    assert (why is None) if said is None else (why is not None and said in why)


def test_a_few_slow_answers_are_no_verdict():
    slow = traffic.total([counts(95, 0.01), counts(5, 30.0)])
    assert traffic.verdict(TRIAL, slow, counts(1000)) is None


def test_latencies_are_known_to_within_a_class():
    for latency_s in (0.002, 0.017, 0.5, 8.0, 250.0):
        assert counts(20, latency_s).latency_s() == pytest.approx(latency_s, rel=traffic.STEP - 1)
    assert Counts().latency_s() == 0
    assert counts(1, 1e9).latency_s() > 1000


def test_counts_of_gateways_add_up():
    both = traffic.total([counts(3, 0.5, failures=1), counts(2), Counts().with_dropped()])
    assert (both.requests, both.failures, both.dropped) == (6, 1, 1)
    assert sum(both.latencies) == 5
    assert traffic.total([]) == Counts()


def test_a_table_finds_a_route_by_name_and_by_version():
    route = Route(model="a@champion", stable="a@1", canary="a@2", share=0.1, shadow="a@3")
    table = Table(routes=(route,))
    assert table.route("a") is table.route("a@1") is table.route("a@2") is route
    assert table.route("a@3") is None
    assert table.route("b") is None
    assert table.versions == {"a@1", "a@2", "a@3"}
    assert "canary a@2 0.1: 3 requests, 1 failed" in traffic.shown(
        route, {"a@2": counts(2, failures=1)}
    )
