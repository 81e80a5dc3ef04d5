"""The keeper's decisions, by table: what is wanted and what runs, and the steps that follow."""

import pytest

from genloom_platform.serve import plan
from genloom_platform.serve.plan import Condition, End, Seen, Start, Switch, TakeBack, Target
from genloom_platform.serve.speed import Speed
from genloom_platform.serve.traffic import Counts, Report, Route, Table
from genloom_platform.serve.wanted import Canary, Pool, Replicas, Served, Shadow

PLAIN = Served(model="a@champion")
TRIED = Served(model="a@champion", canary=Canary(version="a@2", share=0.1, min_requests=10))
COPIED = Served(model="a@champion", shadow=Shadow(version="a@3", share=0.5))
OLD = Route(model="a@champion", stable="a@1")
WITH_CANARY = OLD.model_copy(update={"canary": "a@2", "share": 0.1})
BAD = {"a@2": Counts(requests=3, failures=3)}


def seen(targets, states, routes=(), reports=(), taken_back=(), now=1000.0):
    return Seen(
        now=now,
        targets=targets,
        conditions={
            version: Condition(state, replicas=1, since=900, why="broken" if state == "failed" else "")
            for version, state in states.items()
        },
        table=Table(generation=5, routes=tuple(routes)),
        switched_at=990.0,
        reports=reports,
        taken_back=dict.fromkeys(taken_back, "it failed"),
    )


def report(generation=5, in_flight=None, counts=None):
    return Report(gateway="g", generation=generation, in_flight=in_flight or {}, counts=counts or {})


def switch(*routes, generation=6):
    return Switch(Table(generation=generation, routes=routes))


ONE = [Target(PLAIN, "a@1")]
TWO = [Target(PLAIN, "a@2")]
TRIAL = [Target(TRIED, "a@1", canary="a@2")]
SHADOW = [Target(COPIED, "a@1", shadow="a@3")]
NEW = Route(model="a@champion", stable="a@2")


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        pytest.param(seen(ONE, {}), [Start("a@1", PLAIN)], id="nothing runs"),
        pytest.param(seen(ONE, {"a@1": "starting"}), [], id="it starts"),
        pytest.param(seen(ONE, {"a@1": "ready"}), [switch(OLD)], id="it is ready"),
        pytest.param(seen(ONE, {"a@1": "ready"}, [OLD], [report()]), [], id="all is as wanted"),
        pytest.param(
            seen(TWO, {"a@1": "ready"}, [OLD], [report()]), [Start("a@2", PLAIN)], id="promoted"
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "starting"}, [OLD], [report()]), [], id="old one answers"
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "ready"}, [OLD], [report()]),
            [switch(NEW)],
            id="new one is ready",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "ready"}, [NEW], [report(generation=4)]),
            [],
            id="a gateway has the old table",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "ready"}, [NEW], [report(), report(generation=4)]),
            [],
            id="one of two gateways has the old table",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "ready"}, [NEW], [report(in_flight={"a@1": 1})]),
            [],
            id="a request is under way",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "ready"}, [NEW], [report(in_flight={"a@2": 1})]),
            [End("a@1")],
            id="drained",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "ready"}, [NEW]), [], id="no gateway has told anything"
        ),
        pytest.param(
            seen(
                TWO,
                {"a@1": "ready", "a@2": "ready"},
                [NEW],
                [report(in_flight={"a@1": 1})],
                now=990 + plan.DRAIN_S + 1,
            ),
            [End("a@1")],
            id="drained too long",
        ),
        pytest.param(seen(TWO, {"a@1": "ending", "a@2": "ready"}, [NEW], [report()]), [], id="it ends"),
        pytest.param(
            seen(ONE, {"a@1": "ending", "a@2": "ready"}, [NEW], [report()]),
            [],
            id="promoted back while it ends",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "failed"}, [OLD], [report()], now=910),
            [],
            id="the new one cannot start, and the old one answers",
        ),
        pytest.param(
            seen(TWO, {"a@1": "ready", "a@2": "failed"}, [OLD], [report()]),
            [End("a@2")],
            id="and is tried again later",
        ),
        pytest.param(
            seen([], {"a@1": "ready"}, [OLD], [report()]), [switch()], id="it is wanted no more"
        ),
        pytest.param(
            seen(ONE, {"a@1": "starting"}, [OLD], [report()]), [], id="its replica is replaced"
        ),
        pytest.param(
            seen(TRIAL, {"a@1": "ready"}, [OLD], [report()]), [Start("a@2", TRIED)], id="canary wanted"
        ),
        pytest.param(
            seen(TRIAL, {"a@1": "ready", "a@2": "ready"}, [OLD], [report()]),
            [switch(WITH_CANARY)],
            id="canary ready",
        ),
        pytest.param(
            seen(TRIAL, {"a@1": "ready", "a@2": "ready"}, [WITH_CANARY], [report(counts=BAD)]),
            [
                TakeBack(TRIAL[0].trial, "a@2", "3 of its 3 requests failed, and 0.02 of them may"),
                switch(OLD),
            ],
            id="canary fails",
        ),
        pytest.param(
            seen(
                TRIAL,
                {"a@1": "ready", "a@2": "ready"},
                [WITH_CANARY],
                [report(generation=4, counts=BAD)],
            ),
            [],
            id="counts of another table",
        ),
        pytest.param(
            seen(
                TRIAL,
                {"a@1": "ready", "a@2": "ready"},
                [OLD],
                [report()],
                taken_back=[TRIAL[0].trial],
            ),
            [End("a@2")],
            id="taken back, drained",
        ),
        pytest.param(
            seen(TRIAL, {"a@1": "ready"}, [OLD], [report()], taken_back=[TRIAL[0].trial]),
            [],
            id="stays taken back",
        ),
        pytest.param(
            seen([Target(TRIED, "a@2", canary="a@2")], {"a@1": "ready", "a@2": "ready"}, [WITH_CANARY]),
            [switch(NEW)],
            id="the canary is promoted",
        ),
        pytest.param(
            seen(SHADOW, {"a@1": "ready", "a@3": "ready"}, [OLD], [report()]),
            [switch(OLD.model_copy(update={"shadow": "a@3", "shadow_share": 0.5}))],
            id="shadow ready",
        ),
    ],
)
def test_the_steps_that_follow(given, steps):
    assert plan.decide(given) == steps


def test_a_canary_that_does_not_run_any_more_is_taken_back():
    (step, change) = plan.decide(
        seen(TRIAL, {"a@1": "ready", "a@2": "failed"}, [WITH_CANARY], [report()])
    )
    assert isinstance(step, TakeBack)
    assert step.why == "it does not run any more: broken"
    assert change == switch(OLD)


def test_a_trial_that_is_changed_begins_anew():
    stricter = TRIED.model_copy(update={"canary": Canary(version="a@2", share=0.2)})
    changed = Target(stricter, "a@1", canary="a@2")
    given = seen([changed], {"a@1": "ready"}, [OLD], [report()], taken_back=[TRIAL[0].trial])
    assert plan.decide(given) == [Start("a@2", stricter)]


def test_a_canary_begins_with_one_replica_and_gets_all_before_it_is_what_answers():
    many = TRIED.model_copy(update={"replicas": Replicas(min=3, max=3)})
    (start,) = plan.decide(seen([Target(many, "a@1", "a@2")], {"a@1": "ready"}, [OLD], [report()]))
    assert isinstance(start, Start)
    assert (start.version, start.served.replicas) == ("a@2", Replicas(min=1, max=3))
    promoted = [Target(many, "a@2", "a@2")]
    given = seen(promoted, {"a@1": "ready", "a@2": "ready"}, [WITH_CANARY], [report()])
    few = {**given.conditions, "a@2": Condition("ready", 1, served=start.served)}
    assert plan.decide(Seen(**(vars(given) | {"conditions": few}))) == [Start("a@2", many)]
    grown = {**given.conditions, "a@2": Condition("ready", 3, served=many)}
    assert plan.decide(Seen(**(vars(given) | {"conditions": grown}))) == [switch(NEW)]


def test_other_settings_are_given_to_a_version_that_runs():
    given = seen(ONE, {"a@1": "ready"}, [OLD], [report()])
    more = PLAIN.model_copy(update={"cpus": 2.0})
    conditions = {"a@1": Condition("ready", 1, served=more)}
    changed = Seen(**(vars(given) | {"conditions": conditions}))
    assert plan.decide(changed) == [Start("a@1", PLAIN)]


def test_a_promotion_ends_with_the_new_version_alone():
    """Step by step, as the cluster would be after each."""
    states, table = {"a@1": "ready"}, Table(generation=1, routes=(OLD,))
    answering = set[str]()
    for turn in range(10):
        given = Seen(
            now=1000.0 + turn,
            targets=TWO,
            conditions={version: Condition(state) for version, state in states.items()},
            table=table,
            switched_at=1000.0,
            reports=[report(generation=table.generation)],
        )
        answering |= {table.routes[0].stable}
        assert states.get(table.routes[0].stable) == "ready"
        states = {version: "ready" for version, state in states.items() if state != "ending"}
        for step in plan.decide(given):
            if isinstance(step, Start):
                states[step.version] = "starting"
            elif isinstance(step, End):
                states[step.version] = "ending"
            elif isinstance(step, Switch):
                table = step.table
    assert states == {"a@2": "ready"}
    assert answering == {"a@1", "a@2"}


POOL = Pool(hold=2)


@pytest.mark.parametrize(
    ("wanted", "running", "starts"),
    [
        ({"p": POOL}, {}, {"p": POOL}),
        ({"p": POOL}, {"p": POOL}, {}),
        ({"p": POOL}, {"p": Pool(hold=3)}, {"p": POOL}),
        ({}, {"p": POOL}, {}),
    ],
)
def test_a_pool_starts_when_it_does_not_run_as_wanted(wanted, running, starts):
    assert plan.pools_to_start(wanted, running) == starts


def test_a_pool_ends_with_the_last_version_in_it():
    inside = {"a@1": Served(model="a", pool="p"), "b@1": Served(model="b")}
    assert plan.pools_to_end({}, {"p": POOL}, inside) == []
    assert plan.pools_to_end({}, {"p": POOL}, {"b@1": Served(model="b")}) == ["p"]
    assert plan.pools_to_end({"p": POOL}, {"p": POOL}, {}) == []


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        (Served(model="a"), Served(model="a", cpus=2), 1),
        (Served(model="a"), Served(model="a", speed=Speed(precision="bf16")), 1),
        (Served(model="a"), Served(model="a", pool="p"), 0),
        (Served(model="a", pool="p"), Served(model="a", replicas=Replicas(max=2)), 0),
    ],
)
def test_a_version_that_runs_is_started_otherwise_but_stays_where_it_is(before, after, steps):
    conditions = {"a@1": Condition("ready", 1, served=before)}
    table = Table(generation=5, routes=(Route(model="a", stable="a@1"),))
    given = Seen(now=1000, targets=[Target(after, "a@1")], conditions=conditions, table=table)
    assert plan.decide(given) == [Start("a@1", after)] * steps
