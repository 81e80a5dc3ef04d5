"""Starting an endpoint: what is refused before anything starts."""

import socket

import pytest
import serve_toys as toys

import genloom_platform
from genloom.errors import RequestError, UnknownName
from genloom_platform.serve import application, applications, callers, keyring, keys, launch
from genloom_platform.serve.launch import Source
from genloom_platform.serve.limits import Limits
from genloom_platform.serve.wanted import Wanted
from genloom_platform.store import Store

DRAWER = Source("drawer@1", toys.drawer, 0)


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    def refuse(*args):
        raise AssertionError("something was started")

    monkeypatch.setattr(genloom_platform.cluster, "connect", refuse)
    monkeypatch.delenv(keys.VARIABLE, raising=False)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_not_served_without_a_key(tmp_path, free_port, host):
    with pytest.raises(RequestError, match=keys.VARIABLE) as refusal:
        launch.start(tmp_path.as_uri(), ["drawer"], host, free_port)
    assert refusal.value.exit_status == 2
    assert not list(tmp_path.iterdir())


def test_a_named_key_is_enough_for_other_machines(tmp_path, free_port):
    keyring.add(Store(tmp_path.as_uri()), "team", Limits())
    with pytest.raises(UnknownName):  # the next thing that is looked at
        launch.start(tmp_path.as_uri(), ["drawer"], "0.0.0.0", free_port)


@pytest.mark.parametrize(
    ("host", "key", "asks"),
    [("127.0.0.1", None, False), ("127.0.0.1", "k" * 16, True), ("0.0.0.0", None, True)],
)
def test_the_stores_keys_count_wherever_a_key_is_asked_for(tmp_path, host, key, asks):
    store = Store(tmp_path.as_uri())
    door = callers.door(host, key, store.url, ["https://app.example"])
    assert (door.store is not None) is asks
    assert (door.lock is not None) is (key is not None)
    assert door.origins == ("https://app.example",)


def test_a_weak_key_is_refused_on_this_machine_too(monkeypatch, free_port):
    monkeypatch.setenv(keys.VARIABLE, "tiny")
    with pytest.raises(RequestError, match="16 or more"):
        launch.start_sources([DRAWER], "127.0.0.1", free_port)


def test_a_taken_port_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=f"port = {port}.*Address already in use"):
            launch.start_sources([DRAWER], "127.0.0.1", port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_impossible_port_is_refused(port):
    with pytest.raises(RequestError, match="1 to 65535"):
        launch.start_sources([DRAWER], "127.0.0.1", port)


def test_an_address_of_another_machine_is_refused(monkeypatch, free_port):
    monkeypatch.setenv(keys.VARIABLE, "k" * 32)
    with pytest.raises(RequestError, match=r"192\.0\.2\.77: it is no address of this machine"):
        launch.start_sources([DRAWER], "192.0.2.77", free_port)


def test_no_model_and_one_named_twice_are_refused(free_port):
    with pytest.raises(RequestError, match="no model was named"):
        launch.start_sources([], "127.0.0.1", free_port)
    with pytest.raises(RequestError, match="named twice"):
        launch.start_sources([DRAWER, DRAWER], "127.0.0.1", free_port)


def test_an_unknown_model_is_refused(tmp_path, free_port):
    with pytest.raises(UnknownName):
        launch.start(tmp_path.as_uri(), ["image-vae"], "127.0.0.1", free_port)


def test_the_error_of_a_version_is_what_stands_at_its_end():
    fault = "…\nTraceback:\n  File x\nRuntimeError: because: the weights are corrupt; train"
    assert applications.reason(fault) == "the weights are corrupt; train"


def test_the_url_is_one_that_this_machine_reaches():
    assert (
        application.url(Wanted(models=["drawer"], host="127.0.0.1", port=80)) == "http://127.0.0.1:80"
    )
    assert application.url(Wanted(models=["drawer"], host="0.0.0.0", port=80)) == "http://127.0.0.1:80"
    assert application.url(Wanted(models=["drawer"], host="::", port=80)) == "http://[::1]:80"
    assert (
        application.url(Wanted(models=["drawer"], host="models.acme.example", port=80))
        == "http://models.acme.example:80"
    )
