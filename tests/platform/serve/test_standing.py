"""How an endpoint stands, as it is told in its store and shown."""

import json
import time

import pytest
from typer.testing import CliRunner

from genloom_platform.cli.app import app
from genloom_platform.serve import presence
from genloom_platform.serve.plan import Condition
from genloom_platform.serve.presence import Announcement
from genloom_platform.serve.standing import standings
from genloom_platform.serve.traffic import Counts, Route, Table
from genloom_platform.serve.wanted import Served
from genloom_platform.store import Store

TABLE = Table(
    generation=3,
    routes=(
        Route(model="a@champion", stable="a@1", canary="a@2", share=0.2, shadow="a@3", shadow_share=1),
        Route(model="b", stable="b@7"),
    ),
)
CONDITIONS = {
    "a@1": Condition("ready", 2, since=1_790_000_000),
    "a@2": Condition("ready", 1),
    "a@3": Condition("starting", 0),
    "b@7": Condition("ready", 3, served=Served(model="b", pool="small")),
    "a@9": Condition("failed", why="the weights are corrupt"),
}
COUNTS = {"a@1": Counts(requests=80, failures=1), "a@2": Counts(requests=20)}
STANDINGS = standings(TABLE, CONDITIONS, COUNTS)


def test_each_version_is_told_with_what_it_does():
    told = [
        (each.version, each.model, each.role, each.share, each.replicas, each.requests, each.failures)
        for each in STANDINGS
    ]
    assert told == [
        ("a@1", "a@champion", "answers", 0.8, 2, 80, 1),
        ("a@2", "a@champion", "canary", 0.2, 1, 20, 0),
        ("a@3", "a@champion", "shadow", 1, 0, 0, 0),
        ("b@7", "b", "answers", 1, 3, 0, 0),
        ("a@9", "", "none", 0, 0, 0, 0),
    ]
    assert [each.pool for each in STANDINGS] == [None, None, None, "small", None]
    assert STANDINGS[0].since == "2026-09-21T14:13:20+00:00"
    assert (STANDINGS[4].state, STANDINGS[4].why) == ("failed", "the weights are corrupt")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What `genloom serve --status` writes of a store with such an endpoint."""
    store = Store(tmp_path.as_uri())
    monkeypatch.setenv("GENLOOM_STORE", store.url)
    said = Announcement(
        store=store.url, url="http://127.0.0.1:8000", versions=STANDINGS, news=("a@9 starts",)
    )
    renewing = presence.announce(said)

    def run(*words):
        result = CliRunner().invoke(app, ["serve", "--status", *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    deadline = time.monotonic() + 10
    while not presence.running(store):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield run, renewing, said, store
    renewing.end()


def test_a_person_and_a_program_read_how_an_endpoint_stands(told):
    run, *_ = told
    lines = run().splitlines()
    assert "http://127.0.0.1:8000" in lines[0]
    (first,) = (line.split() for line in lines if line.startswith("a@1"))
    assert first[:6] == ["a@1", "a@champion", "answers", "0.8", "ready", "2"]
    assert first[6:] == ["2026-09-21T14:13:20+00:00", "80", "1"]
    assert any("3 of pool small" in line for line in lines)
    assert any("failed: the weights are corrupt" in line for line in lines)
    (endpoint,) = json.loads(run("--json"))
    assert endpoint["url"] == "http://127.0.0.1:8000"
    assert endpoint["versions"][1] == {
        "version": "a@2", "model": "a@champion", "role": "canary", "share": 0.2, "state": "ready",
        "why": "", "pool": None, "replicas": 1, "since": None, "requests": 20, "failures": 0,
    }  # fmt: skip
    assert "token" not in str(endpoint)


def test_new_counts_alone_are_written_with_the_next_renewal(told):
    _, renewing, said, store = told
    more = standings(TABLE, CONDITIONS, {"a@1": Counts(requests=81)})
    renewing.tell(said.model_copy(update={"versions": more}))
    assert presence.running(store)[0].versions == STANDINGS
    starts = {**CONDITIONS, "a@3": Condition("ready", 1)}
    renewing.tell(said.model_copy(update={"versions": standings(TABLE, starts, {})}))
    assert presence.running(store)[0].versions[2].state == "ready"


def test_json_without_status_is_refused():
    result = CliRunner().invoke(app, ["serve", "a", "--json"])
    assert result.exit_code != 0
    assert "--status" in str(result.exception or result.output)
