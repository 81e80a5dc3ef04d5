"""Named keys in the store, and whose key a request shows."""

import asyncio
import threading
import time

import pytest
from typer.testing import CliRunner

from genloom.errors import RequestError
from genloom_platform.cli.app import app as cli
from genloom_platform.serve import callers as callers_module
from genloom_platform.serve import keyring
from genloom_platform.serve.callers import Caller, Callers
from genloom_platform.serve.errors import Refusal
from genloom_platform.serve.keyring import Ring
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.limits import Limits, Rate
from genloom_platform.store import Store

KEY = "0123456789abcdef"
LIMITS = Limits(rate=Rate.read("10/s"), concurrent=4)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store((tmp_path / "store").as_uri())


def who(callers: Callers, key: str | bytes) -> Caller | None:
    return asyncio.run(callers.find(key if isinstance(key, bytes) else key.encode()))


def ring_of(store: Store) -> Ring:
    ring = Ring(store)
    ring.look()
    return ring


def test_a_key_finds_its_record_which_does_not_hold_it(store):
    key = keyring.add(store, "web-team", LIMITS)
    assert key.startswith("gl-web-team-")
    assert keyring.name_in(key.encode()) == "web-team"
    assert key.rpartition("-")[2] not in store.read("keys/web-team.json").decode()
    callers = Callers(None, ring_of(store))
    assert who(callers, key) == Caller("web-team", LIMITS)
    for wrong in (key[:-1], key + "0", "gl-web-team-", "gl-other-" + key[-48:], "", b"\xff\xfe", KEY):
        assert who(callers, wrong) is None


def test_the_environments_key_counts_beside_those_of_the_store(store):
    key = keyring.add(store, "a", Limits())
    callers = Callers(Lock.of(KEY), ring_of(store))
    assert who(callers, KEY) == Caller("environment")
    assert who(callers, key) == Caller("a")


def test_a_revoked_key_counts_until_the_next_look_and_a_new_one_from_then_on(store):
    key = keyring.add(store, "a", Limits())
    ring = ring_of(store)
    callers = Callers(None, ring)
    assert who(callers, key)
    keyring.revoke(store, "a")
    again = keyring.add(store, "a", LIMITS)
    ring.look()
    assert who(callers, key) is None
    assert who(callers, again) == Caller("a", LIMITS)
    assert who(callers, key) is None


def test_a_key_ends_at_its_time(store):
    key = keyring.add(store, "a", Limits(), lasts_s=100)
    ends = keyring.records(store)["a"].expires
    ring = ring_of(store)
    for now, admitted in ((ends - 1, True), (ends, False), (ends + 1, False)):
        callers = Callers(None, ring, now=lambda now=now: now)
        assert (who(callers, key) is not None) is admitted


def test_what_is_known_goes_on_where_the_store_is_away(tmp_path, store, caplog):
    key = keyring.add(store, "a", Limits())
    ring = ring_of(store)
    (tmp_path / "store" / "keys").rename(tmp_path / "elsewhere")
    (tmp_path / "store" / "keys").write_text("no folder")
    ring.look()
    ring.look()
    assert who(Callers(None, ring), key)
    assert caplog.text.count("go on to count") == 1
    (tmp_path / "store" / "keys").unlink()
    ring.look()
    assert who(Callers(None, ring), key) is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"name": "a"}', "\udcff"])
def test_a_broken_record_opens_nothing_and_harms_no_other(store, caplog, content):
    key = keyring.add(store, "a", Limits())
    store.write("keys/b.json", content.encode("utf-8", "surrogateescape"))
    store.write("keys/c.json", store.read("keys/a.json"))
    assert list(ring_of(store).records) == ["a"]
    assert who(Callers(None, ring_of(store)), key.replace("gl-a-", "gl-c-")) is None
    assert "keys/b.json cannot be read" in caplog.text
    assert "keys/c.json is another key's" in caplog.text


def test_of_two_who_add_a_name_at_once_one_wins(store):
    made: list[str] = []
    refused: list[str] = []

    def add() -> None:
        try:
            made.append(keyring.add(store, "a", Limits()))
        except RequestError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 3)
    assert "genloom keys revoke a" in refused[0]
    assert who(Callers(None, ring_of(store)), made[0])


@pytest.mark.parametrize("name", ["", "../a", "A", "a/b", "environment", "a" * 101])
def test_what_is_no_name_is_refused(store, name):
    with pytest.raises(RequestError):
        keyring.add(store, name, Limits())
    assert store.names("keys") == []


def test_revoking_what_is_not_there_is_told(store):
    with pytest.raises(RequestError, match="genloom keys list"):
        keyring.revoke(store, "nobody")


@pytest.mark.parametrize(
    ("text", "seconds"), [("12h", 43200), ("30d", 2592000), ("8w", 4838400), ("1h", 3600)]
)
def test_a_time_is_read(text, seconds):
    assert keyring.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "30", "d", "-1d", "1.5h", "30 d", "30m", "99999d"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(RequestError, match="12h, 30d or 8w"):
        keyring.duration_s(text)


def test_after_the_right_key_none_costs_much(store):
    key = keyring.add(store, "a", Limits())
    callers = Callers(Lock.of(KEY), ring_of(store))
    assert who(callers, KEY)
    assert who(callers, key)

    async def show() -> list[Caller | None]:
        wrong = [f"gl-a-{index}".encode() for index in range(500)] + [
            b"wrong%d" % i for i in range(500)
        ]
        return [await callers.find(shown) for shown in wrong]

    started = time.perf_counter()
    assert asyncio.run(show()) == [None] * 1000
    assert time.perf_counter() - started < 1


def test_unknown_keys_are_tried_one_by_one_and_few_may_wait(store, monkeypatch):
    keyring.add(store, "fresh", Limits())
    known = keyring.add(store, "known", Limits())
    callers = Callers(None, ring_of(store))
    trying, most = 0, 0
    opens = Lock.opens

    def counted(lock: Lock, key: bytes) -> bool:
        nonlocal trying, most
        trying += 1
        most = max(most, trying)
        try:
            return opens(lock, key)
        finally:
            trying -= 1

    async def flood() -> tuple[list, float]:
        assert await callers.find(known.encode())
        wrong = [asyncio.create_task(callers.find(b"gl-fresh-%d" % index)) for index in range(100)]
        await asyncio.sleep(0)
        started = time.perf_counter()
        assert await callers.find(known.encode())
        took_s = time.perf_counter() - started
        return await asyncio.gather(*wrong, return_exceptions=True), took_s

    monkeypatch.setattr(Lock, "opens", counted)
    results, took_s = asyncio.run(flood())
    assert most == 1
    assert took_s < 0.02
    refused = [each for each in results if isinstance(each, Refusal)]
    assert len(refused) == 100 - callers_module.MAX_WAITING
    assert refused[0].status == 503
    assert refused[0].headers == {"Retry-After": "1"}
    assert results.count(None) == callers_module.MAX_WAITING


def test_the_commands_add_list_and_revoke(store, monkeypatch):
    monkeypatch.setenv("GENLOOM_STORE", store.url)

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, ["keys", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "genloom keys add" in run("list")
    key = run("add", "web", "--rate", "600/min", "--concurrent", "4", "--expires", "30d").strip()
    assert who(Callers(None, ring_of(store)), key).limits == Limits(
        rate=Rate.read("600/min"), concurrent=4
    )
    run("add", "ops")
    listed = run("list")
    assert "600/min" in listed
    assert "never" in listed
    assert key not in listed
    assert "revoked" in run("revoke", "web")
    assert list(keyring.records(store)) == ["ops"]
