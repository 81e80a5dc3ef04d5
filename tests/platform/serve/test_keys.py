"""The key, the lock and the rule of loopback."""

import os
import pickle

import pytest

from genloom.errors import RequestError
from genloom_platform.serve import keys
from genloom_platform.serve.keys import Lock

KEY = "0123456789abcdef"


def test_a_lock_opens_to_its_key_alone_and_does_not_hold_it():
    lock = Lock.of(KEY)
    assert lock.opens(KEY.encode())
    assert not lock.opens(KEY[:-1].encode())
    assert not lock.opens(b"")
    assert KEY.encode() not in pickle.dumps(lock)
    assert repr(lock) == "Lock()"
    assert Lock.of(KEY).digest != lock.digest


@pytest.mark.parametrize(
    "key", ["", "short", "k" * 15, "k" * 20 + " k", "k" * 20 + "é", "k" * 20 + "\n"]
)
def test_a_key_that_is_short_or_cannot_be_sent_is_refused(monkeypatch, key):
    monkeypatch.setenv(keys.VARIABLE, key)
    with pytest.raises(RequestError, match=keys.VARIABLE) as refusal:
        keys.from_environment()
    assert "openssl rand" in str(refusal.value)
    assert len(key) < 5 or key not in str(refusal.value)


def test_a_key_is_kept_from_what_is_started_meanwhile(monkeypatch):
    monkeypatch.setenv(keys.VARIABLE, KEY)
    with keys.withheld():
        assert keys.VARIABLE not in os.environ
    assert keys.from_environment() == KEY


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_this_machine_may_be_served_without_a_key(host):
    keys.check_exposure(host, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_other_machines_may_not(host):
    with pytest.raises(RequestError, match=keys.VARIABLE):
        keys.check_exposure(host, False)
    keys.check_exposure(host, True)


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("host", ["no-such-host.invalid", ""])
def test_a_host_without_address_is_refused(host, has_key):
    with pytest.raises(RequestError, match="no address"):
        keys.check_exposure(host, has_key)
