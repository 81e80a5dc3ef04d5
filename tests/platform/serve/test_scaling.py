"""How many replicas the autoscaler is told to want."""

from types import SimpleNamespace

import pytest

from genloom_platform.serve import scaling


@pytest.mark.parametrize(
    ("reported", "calls", "wanted"),
    [({}, 0, 0), ({"a": 0.0}, 3, 0), ({"a": 1.0}, 1, 1), ({"a": 64.0, "b": 1.0}, 4, 3), ({}, 40, 2)],
)
def test_replicas_are_wanted_for_the_requests_that_they_hold(reported, calls, wanted):
    """Calls count only where nothing has been reported yet."""
    context = SimpleNamespace(
        aggregated_metrics={scaling.REQUESTS: reported} if reported else {},
        total_num_requests=calls,
        config=SimpleNamespace(target_ongoing_requests=32),
    )
    assert scaling.by_requests(context) == (wanted, {})
