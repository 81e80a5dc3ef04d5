"""The lines of a run that is shown in a log: a few where it is short, a sign now and then where it is long."""

from itertools import pairwise

from genloom_platform.observe.display import Display, Lines
from genloom_platform.store import Store


def written(steps, step_s):
    """When lines are written of a run that reports each second, or each step where that is longer."""
    lines, at = Lines(steps), []
    every = max(1, round(1 / step_s))
    for step in range(every, steps + 1, every):
        if lines.due(step, step * step_s):
            at.append(step * step_s)
    return at


def test_a_short_run_has_a_line_for_each_quarter():
    assert written(1000, 0.01) == [3.0, 5.0, 8.0, 10.0]
    assert written(4, 2.0) == [2, 4, 6, 8]


def test_a_long_run_gives_a_sign_soon_and_then_more_seldom():
    at = written(36_000, 1.0)
    assert at[:5] == [30, 60, 120, 240, 480]
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert max(gaps) <= 600
    assert len(at) < 75
    assert {9000, 18_000, 27_000, 36_000} <= set(at)


def test_what_a_library_says_of_a_failure_is_shown_as_it_is(capfd, tmp_path):
    said = "worker 1 failed: [/usr/lib/gloo/pair.cc:553] Connection closed [bold]"
    with Display(Store(tmp_path.as_uri())) as display:
        display.event(said)
    assert said in capfd.readouterr().out
