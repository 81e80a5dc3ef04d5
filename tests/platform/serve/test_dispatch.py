"""The gateway's traffic without HTTP and without Ray: calls that are shared, canaries, shadows."""

import asyncio
from dataclasses import replace

import pytest
import serve_toys as toys

from genloom.errors import InvalidConfig, Problem
from genloom_platform.serve import coalesce, dispatch
from genloom_platform.serve.coalesce import Interrupted
from genloom_platform.serve.dispatch import Dispatch, Known
from genloom_platform.serve.errors import Refusal
from genloom_platform.serve.model import Pinned, served
from genloom_platform.serve.traffic import Route, Table

CARD = served(toys.drawer(), 0).card()
OLD = Route(model="drawer", stable="drawer@1")
TRIED = OLD.model_copy(update={"canary": "drawer@2", "share": 0.5})
COPIED = OLD.model_copy(update={"shadow": "drawer@3", "shadow_share": 1})
WRONG = InvalidConfig("the request", [Problem("prompts.0", "", "it is wrong", "change it")])


class Versions:
    """Versions whose answers are scripted; what they are asked is kept."""

    def __init__(self):
        self.calls = []
        self.answers = {}
        self.wait_s = 0.0

    async def __call__(self, version, requests):
        self.calls.append((version, len(requests)))
        await asyncio.sleep(self.wait_s)
        answer = self.answers.get(version, version)
        answers = [answer(prompts) if callable(answer) else answer for prompts in requests]
        for each in answers:
            if isinstance(each, Interrupted):
                raise each
        return [each if isinstance(each, Exception) else [each] * len(requests[0]) for each in answers]

    def asked(self, version):
        return sum(number for name, number in self.calls if name == version)


@pytest.fixture
def versions():
    return Versions()


@pytest.fixture
def made(versions):
    """A dispatch that goes by the route given."""

    def make(route=OLD, replicas=1):
        it = Dispatch(versions)
        it.update(known(route, replicas=replicas))
        return it

    return make


def known(route, generation=1, replicas=1):
    cards = {version: replace(CARD, version=version[-1]) for version in route.versions}
    return Known(
        Table(generation=generation, routes=(route,)), cards, dict.fromkeys(route.versions, replicas)
    )


async def ask(it, count, model="drawer@1"):
    return await asyncio.gather(*(it.answer(model, [{}]) for _ in range(count)), return_exceptions=True)


def test_requests_at_once_share_calls_and_each_has_its_own_answer(versions, made):
    versions.wait_s = 0.05
    versions.answers["drawer@1"] = lambda prompts: prompts[0]

    async def scenario():
        it = made()
        return await asyncio.gather(*(it.answer("drawer@1", [index]) for index in range(100)))

    answers = asyncio.run(scenario())
    assert [answer[0] for answer in answers] == list(range(100))
    assert {answer.model for answer in answers} == {"drawer@1"}
    assert [number for _, number in versions.calls] == [1, 1, 64, 34]


def test_a_request_waits_for_others_for_milliseconds_only(versions, made):
    versions.wait_s = 0.5

    async def scenario():
        it = made()
        waits = []
        for _ in range(4):
            waits.append(asyncio.ensure_future(it.answer("drawer@1", [{}])))
            await asyncio.sleep(4 * coalesce.LINGER_S)
        sent = len(versions.calls)
        await asyncio.gather(*waits)
        return sent

    assert asyncio.run(scenario()) == 4


def test_a_large_request_goes_alone(versions, made):
    versions.wait_s = 0.02

    async def scenario():
        it = made()
        sizes = (1, 1, 3, 60, 256, 5)
        answers = await asyncio.gather(*(it.answer("drawer@1", [{}] * size) for size in sizes))
        return [len(answer) for answer in answers]

    asyncio.run(scenario())
    assert [number for _, number in versions.calls] == [1, 1, 2, 1, 1]


def test_a_failure_in_a_call_fails_no_other_request(versions, made):
    versions.answers["drawer@1"] = lambda prompts: WRONG if prompts[0] == 7 else "good"

    async def scenario():
        it = made()
        asked = (it.answer("drawer@1", [index]) for index in range(20))
        return await asyncio.gather(*asked, return_exceptions=True), it.report()

    answers, report = asyncio.run(scenario())
    assert [index for index, answer in enumerate(answers) if answer is WRONG] == [7]
    assert [answer for answer in answers if answer is not WRONG] == [["good"]] * 19
    assert report.counts["drawer@1"].failures == 0
    assert report.counts["drawer@1"].requests == 19


def test_a_replica_that_ends_fails_nobody_but_what_ends_every_replica(versions, made):
    """The one request that kills is told apart from those that shared its call."""
    dead = 0

    def answer(prompts):
        nonlocal dead
        if prompts[0] == "deadly":
            dead += 1
            return Interrupted()
        return "good"

    versions.answers["drawer@1"] = answer

    async def scenario():
        it = made()
        prompts = ["a", "b", "c", "deadly", "d"]
        asked = (it.answer("drawer@1", [prompt]) for prompt in prompts)
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(scenario())
    assert [answer for answer in answers if not isinstance(answer, Exception)] == [["good"]] * 4
    assert isinstance(answers[3], Refusal)
    assert (answers[3].status, answers[3].body.code) == (503, "model_stopped")
    assert dead == coalesce.ATTEMPTS


def test_a_call_whose_callers_have_all_gone_is_ended(versions, made):
    ended = []

    async def call(version, requests):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(len(requests))
            raise

    async def scenario():
        it = Dispatch(call)
        it.update(known(OLD))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await it.answer("drawer@1", [{}])
        await asyncio.sleep(0.05)
        return it.report()

    assert asyncio.run(scenario()).in_flight == {}
    assert ended == [1]


def test_a_canary_answers_its_share_and_says_so(versions, made):
    async def scenario():
        it = made(TRIED)
        return await ask(it, 100), it.report()

    answers, report = asyncio.run(scenario())
    models = [answer.model for answer in answers]
    assert models.count("drawer@2") == 50
    assert report.counts["drawer@2"].requests == 50


@pytest.mark.parametrize("error", [RuntimeError("broken"), WRONG, Interrupted()])
def test_what_a_canary_cannot_answer_the_other_version_does(versions, made, error):
    versions.answers["drawer@2"] = error

    async def scenario():
        it = made(TRIED)
        return await ask(it, 10), it.report()

    answers, report = asyncio.run(scenario())
    assert [answer.model for answer in answers] == ["drawer@1"] * 10
    assert report.counts["drawer@2"].failures == 5
    assert report.counts["drawer@1"].failures == 0


def test_what_both_versions_refuse_is_the_callers_mistake(versions, made):
    versions.answers = {"drawer@1": WRONG, "drawer@2": WRONG}

    async def scenario():
        it = made(TRIED)
        return await ask(it, 10), it.report()

    answers, report = asyncio.run(scenario())
    assert answers == [WRONG] * 10
    assert report.counts == {}


def test_a_canary_that_hangs_is_given_up(versions, made, monkeypatch):
    monkeypatch.setattr(dispatch, "CANARY_TIMEOUT_S", 0.05)

    async def call(version, requests):
        await asyncio.sleep(60 if version == "drawer@2" else 0)
        return [[version]] * len(requests)

    async def scenario():
        it = Dispatch(call)
        it.update(known(TRIED))
        return await ask(it, 2), it.report()

    answers, report = asyncio.run(scenario())
    assert answers == [["drawer@1"]] * 2
    assert report.counts["drawer@2"].failures == 1


def test_a_version_that_a_request_names_answers_it_itself(versions, made):
    async def scenario():
        it = made(TRIED)
        return await ask(it, 10, Pinned("drawer@1")), await ask(it, 1, Pinned("drawer@2"))

    pinned, other = asyncio.run(scenario())
    assert {answer.model for answer in pinned} == {"drawer@1"}
    assert other[0].model == "drawer@2"


def test_a_shadow_is_asked_and_neither_delays_nor_fails_anybody(versions, made, monkeypatch):
    monkeypatch.setattr(dispatch, "SHADOWS", 4)
    versions.answers["drawer@3"] = RuntimeError("broken")

    async def scenario():
        it = made(COPIED)
        answers = await ask(it, 10)
        await asyncio.sleep(0.1)
        return answers, it.report()

    answers, report = asyncio.run(scenario())
    assert [answer.model for answer in answers] == ["drawer@1"] * 10
    shadow = report.counts["drawer@3"]
    assert (shadow.failures, shadow.dropped) == (4, 6)


def test_a_version_that_does_not_come_up_is_told_after_a_while(versions, made, monkeypatch):
    monkeypatch.setattr(dispatch, "LOOK_S", 0.02)
    monkeypatch.setattr(dispatch, "START_WAIT_S", 0.1)
    versions.wait_s = 0.5

    async def scenario():
        asleep = made(replicas=0)
        told = await ask(asleep, 1)
        coming = made(replicas=0)
        waiting = asyncio.ensure_future(coming.answer("drawer@1", [{}]))
        await asyncio.sleep(0.04)
        coming.update(known(OLD))
        return told[0], await waiting

    told, answer = asyncio.run(scenario())
    assert (told.status, told.headers["Retry-After"]) == (503, "30")
    assert answer == ["drawer@1"]


def test_a_new_table_begins_the_counts_of_what_changed_anew(versions, made):
    async def scenario():
        it = made()
        await ask(it, 5)
        before = it.report()
        it.update(known(TRIED, generation=2))
        await ask(it, 2)
        return before, it.report(), [card.full_name for card in it.models()]

    before, after, models = asyncio.run(scenario())
    assert (before.generation, before.counts["drawer@1"].requests) == (1, 5)
    assert (after.generation, after.counts["drawer@1"].requests) == (2, 1)
    assert models == ["drawer@1"]


def test_a_request_that_was_looked_up_before_a_switch_goes_to_the_new_version(versions, made):
    async def scenario():
        it = made()
        it.update(known(OLD.model_copy(update={"stable": "drawer@2"}), generation=2))
        moved = await it.answer("drawer@1", [{}])
        with pytest.raises(Refusal, match="there is no model"):
            await it.answer(Pinned("drawer@1"), [{}])
        return moved.model

    assert asyncio.run(scenario()) == "drawer@2"


def test_streams_count_as_answers_and_as_failures(made):
    async def scenario():
        it = made(TRIED)
        for _ in range(5):
            with it.asking("drawer@2"):
                assert it.report().in_flight == {"drawer@2": 1}
        with pytest.raises(RuntimeError), it.asking("drawer@2"):
            raise RuntimeError("broken")
        with pytest.raises(InvalidConfig), it.asking("drawer@2"):
            raise WRONG
        return it.report()

    report = asyncio.run(scenario())
    assert report.in_flight == {}
    counts = report.counts["drawer@2"]
    assert (counts.requests, counts.failures) == (6, 1)
