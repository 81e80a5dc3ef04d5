"""A cluster on this machine that does not come up: what is told."""

import pytest
import ray

from genloom.errors import GenloomError
from genloom_platform import cluster

SLOW = (
    "The current node timed out during startup. This could happen because some of the raylet failed to startup "
    "or the GCS has become overloaded."
)


def failing(monkeypatch, error, address=None):
    """Connect, where Ray's start ends so."""

    def init(**options):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster.connect()


@pytest.mark.parametrize("error", [
    Exception(SLOW), TimeoutError("Timed out after 30 seconds while waiting for node to startup."),
])  # fmt: skip
def test_a_start_that_takes_too_long_is_told_with_the_load_and_what_to_do(monkeypatch, error):
    with pytest.raises(
        GenloomError, match=r"did not start .* cores: try again when less runs here"
    ) as told:
        failing(monkeypatch, error)
    assert str(error) in str(told.value)
    assert told.value.__cause__ is error


def test_a_cluster_that_cannot_be_reached_is_named(monkeypatch):
    with pytest.raises(GenloomError, match=r"cannot reach the cluster at 10\.1\.2\.3:6379: no route"):
        failing(monkeypatch, ConnectionError("no route"), "10.1.2.3:6379")


def test_an_error_of_our_own_is_not_taken_for_rays(monkeypatch):
    with pytest.raises(KeyError):
        failing(monkeypatch, KeyError("options"))
