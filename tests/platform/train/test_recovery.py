"""What recovery decides, by table; and which workers count as hung."""

import pytest

from genloom_platform.config import Recovery, Scale
from genloom_platform.train.recovery import (
    Attempt,
    Avoid,
    End,
    GiveUp,
    GoOn,
    Sign,
    avoid,
    decide,
    failures_in_a_row,
    hung,
    never_heard,
    vain_resizes,
    workers_for,
)  # fmt: skip


def attempts(*endings):
    """A history: (ending, the step it began at, the step it ended at, a bad step) each."""
    made = []
    for number, (ending, *rest) in enumerate(endings, 1):
        from_step, step, bad = (*rest, *(0, 0, None)[len(rest) :])
        made.append(
            Attempt(number=number, workers=2, from_step=from_step, step=step, ending=ending,
                    message=f"{ending} {number}", bad_step=bad)
        )  # fmt: skip
    return made


DIED = ("worker died", 0, 10)


@pytest.mark.parametrize(("history", "settings", "decision"), [
    ([("finished", 0, 100)], {}, End(finished=True)),
    ([("stopped", 0, 40)], {}, End(finished=False)),
    ([("resized", 0, 40)], {"retries": 0}, GoOn(reason="resized 1")),
    ([("preempted", 0, 40)] * 9, {"retries": 0}, GoOn(reason="preempted 9")),
    ([DIED], {}, GoOn(0, "worker died 1; retry 1 of 3")),
    ([DIED, ("worker hung", 0, 3)], {}, GoOn(2, "worker hung 2; retry 2 of 3")),
    ([DIED, DIED, ("store away", 0, 3)], {}, GoOn(4, "store away 3; retry 3 of 3")),
    ([DIED] * 8, {"retries": 20}, GoOn(60, "worker died 8; retry 8 of 20")),
    ([DIED] * 4, {}, GiveUp("worker died 4; it failed 4 times without reaching another checkpoint, and "
                            "recovery.retries is 3")),
    ([DIED], {"retries": 0}, GiveUp("worker died 1; it failed once without reaching another checkpoint, and "
                                    "recovery.retries is 0")),
    ([DIED, DIED, DIED, ("worker died", 50, 70)], {}, GoOn(0, "worker died 4; retry 1 of 3")),
    ([DIED, ("preempted", 0, 5), ("worker died", 0, 9)], {}, GoOn(2, "worker died 3; retry 2 of 3")),
    ([("error", 0, 10)], {}, GiveUp("error 1")),
    ([("out of memory", 0, 10)], {}, GiveUp("out of memory 1")),
    ([("damaged checkpoint", 40, 40, 40)], {"retries": 0}, GoOn(reason="damaged checkpoint 1")),
    ([("not a number", 0, 10, 10)], {}, GiveUp("not a number 1")),
    ([("not a number", 0, 10, 10)], {"nan": "skip"}, GiveUp("not a number 1")),
    ([("not a number", 0, 10, 10)], {"nan": "rollback"},
     GoOn(reason="not a number 1; that step is passed over")),
    ([("not a number", 0, 10, 10), ("not a number", 0, 12, 12)], {"nan": "rollback", "nan_limit": 1},
     GiveUp("not a number 2; 1 steps were passed over already (recovery.nan_limit)")),
])  # fmt: skip
def test_what_follows_an_attempt(history, settings, decision):
    assert decide(attempts(*history), Recovery.model_validate(settings)) == decision


def test_a_run_that_comes_further_is_never_given_up():
    history = []
    for step in range(0, 1000, 10):
        history.append(("worker died", step, step + 15))
        assert isinstance(decide(attempts(*history), Recovery.model_validate({"retries": 1})), GoOn)
        assert failures_in_a_row(attempts(*history)) == 1


@pytest.mark.parametrize(("history", "vain"), [
    ([], 0), ([("resized", 2)], 0), ([("resized", 2), ("resized", 3)], 0),
    ([("resized", 2), ("resized", 2)], 1), ([("resized", 2), ("resized", 2), ("resized", 2)], 2),
    ([("resized", 2), ("resized", 2), ("worker died", 2)], 2), ([("worker died", 3), ("resized", 2)], 0),
])  # fmt: skip
def test_resizes_that_brought_nothing_are_counted(history, vain):
    made = [
        attempt.model_copy(update={"workers": workers})
        for attempt, (_, workers) in zip(attempts(*[(e,) for e, _ in history]), history, strict=True)
    ]
    assert vain_resizes(made) == vain


def test_what_attempts_ended_on_is_left_alone():
    history = attempts(
        ("not a number", 0, 7, 7), DIED, ("damaged checkpoint", 40, 40, 40), ("not a number", 0, 9, 9)
    )
    assert avoid(history) == Avoid(frozenset({7, 9}), frozenset({40}))
    assert avoid([*history, *attempts(("resized", 0, 60))]) == Avoid(frozenset({7, 9}), frozenset())


@pytest.mark.parametrize(("workers", "slots", "parts", "found"), [
    ((2, 8), 8, 64, 8), ((2, 8), 7, 64, 4), ((2, 8), 3, 64, 2), ((2, 8), 1, 64, 0), ((1, 3), 9, 24, 3),
    (4, 9, 64, 4), (4, 3, 64, 0), ((3, 5), 5, 12, 4),
])  # fmt: skip
def test_the_most_workers_that_fit_and_divide_the_batch(workers, slots, parts, found):
    assert workers_for(Scale.model_validate({"workers": workers}), slots, parts) == found


def sign(phase="compute", phase_s=0.0, silent_s=0.0):
    return Sign(10, phase, phase_s, silent_s)


@pytest.mark.parametrize(("signs", "step_s", "ranks"), [
    ({0: sign(), 1: sign()}, 0.1, []),
    ({0: sign(phase_s=61), 1: sign(silent_s=61)}, 0.1, [1]),
    ({0: sign("communication", 61), 1: sign("compute", 61)}, 0.1, [1, 0]),
    ({0: sign("compute", 61), 1: sign("communication", 61)}, 0.1, [0, 1]),
    ({0: sign(phase_s=61)}, 10, []),
    ({0: sign(phase_s=201)}, 10, [0]),
    ({0: sign(phase_s=500)}, 0, []),
    ({0: sign("start", 601)}, 0, [0]),
    ({0: sign("start", 30, silent_s=61)}, 0, [0]),
    ({0: sign("checkpoint", 9999)}, 0.1, []),
    ({}, 0.1, []),
])  # fmt: skip
def test_a_worker_is_hung_when_silent_or_long_over_the_time_of_a_step(signs, step_s, ranks):
    assert hung(signs, step_s, Recovery.model_validate({})) == ranks


@pytest.mark.parametrize(("heard", "since_s", "ranks"), [
    ([], 500, []), ([], 601, [0, 1]), ([1], 601, [0]), ([0, 1], 9999, []),
])  # fmt: skip
def test_a_worker_that_never_gave_a_sign_is_told_once_it_had_time_to_start(heard, since_s, ranks):
    assert never_heard(heard, 2, since_s, Recovery.model_validate({})) == ranks
