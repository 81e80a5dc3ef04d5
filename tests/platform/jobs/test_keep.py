"""What is kept of a job for the case that its head dies, and what is started again of it."""

import json
import os

import pytest

from genloom_platform.jobs import keep, origin
from genloom_platform.store import Store

TOKEN = "t" * 64


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store, and the environment that a job's command finds."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("GENLOOM_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv(origin.JOB, "dots")
    told = {"runtime_env": {"env_vars": {"AWS_REGION": "x"}}, "metadata": {"genloom_job": "dots"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))
    return Store()


class Head:
    """A head that takes jobs, and says which it was sent."""

    def __init__(self):
        self.sent, self.client = [], self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def list_jobs(self):
        return []

    def submit_job(self, **sent):
        self.sent.append(sent)


@pytest.fixture
def head(monkeypatch):
    made = Head()
    monkeypatch.setattr(keep, "_this_head", lambda wait_s: made)
    return made


def cut_off(store, words):
    """Run a command that is killed: what it keeps is not taken away."""
    with keep.kept(words):
        record = store.read("submissions/dots/job.json")
    store.write("submissions/dots/job.json", record)


def test_a_job_is_kept_until_its_command_has_ended(store, head):
    with keep.kept(["train", "acme dots", "--workers", "3"]):
        assert store.names("submissions") == ["dots"]
    assert store.names("submissions") == []
    with pytest.raises(SystemExit), keep.kept(["train"]):
        raise SystemExit(1)
    assert store.names("submissions") == []
    assert list(keep.start_again(store, 0)) == []


def test_what_cannot_go_on_or_is_no_job_is_not_kept(store, monkeypatch):
    with keep.kept(["data", "import", "digits"]):
        assert store.names("submissions") == []
    monkeypatch.delenv(origin.JOB)
    with keep.kept(["train"]):
        assert store.names("submissions") == []


def test_a_job_that_was_cut_off_is_started_again_as_it_was_sent(store, head):
    cut_off(store, ["train", "acme dots", "--workers", "3"])
    assert list(keep.start_again(store, 0)) == [("dots", "is started again")]
    (sent,) = head.sent
    assert (sent["submission_id"], sent["entrypoint"]) == (
        "dots",
        "genloom train 'acme dots' --workers 3",
    )
    assert sent["metadata"] == {"genloom_job": "dots"}
    assert sent["runtime_env"] == {"env_vars": {"AWS_REGION": "x", origin.AGAIN: "yes"}}


def test_what_another_wrote_into_the_store_is_never_run(store, head):
    cut_off(store, ["train", "dots"])
    record = store.read_json("submissions/dots/job.json")
    record["sent"]["entrypoint"] = "rm -r /"
    store.write_json("submissions/dots/job.json", record)
    assert "another cluster's" in dict(keep.start_again(store, 0))["dots"]
    cut_off(store, ["train", "dots"])
    with open(os.environ["RAY_AUTH_TOKEN_PATH"], "w") as file:
        file.write("u" * 64)  # another cluster's head
    assert "another cluster's" in dict(keep.start_again(store, 0))["dots"]
    store.write("submissions/dots/job.json", b"{")
    assert "is damaged" in dict(keep.start_again(store, 0))["dots"]
    assert head.sent == []
    assert TOKEN not in json.dumps(record)


def test_a_run_that_something_writes_is_left_alone(store, head, monkeypatch):
    from genloom_platform.train.lock import Lock

    cut_off(store, ["train", "dots"])
    monkeypatch.setattr(keep, "SETTLED_S", 0)
    with Lock(store, "dots"):
        assert "still runs somewhere" in dict(keep.start_again(store, 0))["dots"]
    assert head.sent == []


def test_a_job_that_its_cluster_has_forgotten_is_waited_for_from_then_on(monkeypatch):
    from genloom.errors import UnknownName
    from genloom_platform.jobs import job
    from genloom_platform.jobs.client import Unreachable

    now = [1000.0]
    monkeypatch.setattr(job.time, "monotonic", lambda: now[0])
    patience, forgotten = job._Patience(), UnknownName("job", "dots", [], "")
    for seconds, error, over in (
        (0, Unreachable("away"), False), (500, Unreachable("away"), False), (0, forgotten, False),
        (50, forgotten, False), (20, forgotten, True), (0, Unreachable("away"), False),
        (601, Unreachable("away"), True),
    ):  # fmt: skip
        now[0] += seconds
        assert patience.ends_with(error) == over
    assert job._Patience(0).ends_with(forgotten)
