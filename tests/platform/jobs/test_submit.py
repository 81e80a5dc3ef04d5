"""What a submission says and does, against a job server that is scripted."""

import json

import pytest
import ray
from answering import Answer, serving
from typer.testing import CliRunner

from genloom.errors import ClusterError, RequestError
from genloom_platform import profiles
from genloom_platform.cli.app import app
from genloom_platform.jobs import submit
from genloom_platform.jobs.client import Cluster

WORDS = ["models", "list"]


class Scripted:
    """A job server's memory, and how it answers what is sent to it."""

    def __init__(self):
        self.jobs = []
        self.status = 200
        self.lose_answers = 0
        self.asked = []

    def get(self, path):
        """The JSON for a path."""
        if path.startswith("/api/jobs/"):
            return self.jobs[0] if path.removeprefix("/api/jobs/") else self.jobs
        return {"ray_version": ray.__version__}

    def post(self, path, sent):
        """Take a job, or a word about one; its status, and what is told."""
        self.asked.append(path)
        if self.status != 200:
            return self.status, "<html><body><h1>no</h1></body></html>"
        if path == "/api/jobs/":
            known = {"type": "SUBMISSION", "status": "RUNNING", "start_time": 1}
            kept = {key: sent[key] for key in ("submission_id", "entrypoint", "metadata")}
            self.jobs.append(known | kept)
            self.lose_answers -= 1
            return (0 if self.lose_answers >= 0 else 200), dict.fromkeys(
                ("job_id", "submission_id"), sent["submission_id"]
            )
        self.jobs[0]["status"] = "STOPPED"
        return 200, {"stopped": True}


def answers(scripted):
    """The server of what is scripted."""

    class Scripts(Answer):
        def do_GET(self):  # noqa: N802
            self.tell(200, scripted.get(self.path))

        def do_POST(self):  # noqa: N802
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.tell(*scripted.post(self.path, json.loads(content or b"null")))

        def tell(self, status, body):
            if not status:
                self.close_connection = True
                return
            self.send(status, (body if isinstance(body, str) else json.dumps(body)).encode())

    return serving(Scripts)


@pytest.fixture
def head(home, monkeypatch):
    monkeypatch.setenv("LAB_OPENS", "t" * 32)
    monkeypatch.setattr(submit.time, "sleep", lambda seconds: None)
    scripted = Scripted()
    with answers(scripted) as url:
        (home / "clusters" / "lab.yaml").write_text(f"address: {url}\ntoken: {{env: LAB_OPENS}}\n")
        yield scripted


def said(*words):
    done = CliRunner().invoke(app, list(words))
    return done.output, done.exception


def sent(id="dots"):
    return said("submit", "--cluster", "lab", "--id", id, "--", *WORDS)


def test_a_job_that_was_there_is_told_from_one_that_is_started(head):
    assert sent() == ("job dots on lab; genloom jobs logs --follow dots shows it\n", None)
    there = "job dots on lab is there already: it"
    assert sent()[0] == f"{there} runs; genloom jobs logs --follow dots shows it\n"
    head.jobs[0]["status"] = "PENDING"
    assert sent()[0].startswith(f"{there} waits to start; ")
    head.jobs[0]["status"] = "STOPPED"
    assert sent()[0] == f"{there} was stopped; another --id starts anew\n"
    assert len(head.asked) == 1


def test_a_job_whose_answer_was_lost_is_one_that_was_started(head):
    head.lose_answers = 1
    assert sent()[0] == "job dots on lab; genloom jobs logs --follow dots shows it\n"
    assert len(head.jobs) == 1


def test_nothing_is_said_to_be_started_where_it_is_not(head):
    head.status = 500
    output, error = sent()
    assert output == ""
    assert isinstance(error, ClusterError)
    assert str(error).endswith("did not take the job dots: Request failed with status code 500: no .")
    head.status = 413
    output, error = sent()
    assert output == ""
    assert isinstance(error, RequestError)
    assert "what travels is larger than the cluster lab, or a proxy before it, takes at once" in str(
        error
    )


def test_an_id_that_is_empty_is_refused(head):
    output, error = sent("")
    assert output == ""
    assert "'' is no name for a job" in str(error)
    assert not head.asked


def test_only_a_job_that_runs_is_said_to_have_been_asked_to_end(head):
    output, error = said("jobs", "stop", "nonesuch", "--cluster", "lab")
    assert (output, "there is no job 'nonesuch'" in str(error)) == ("", True)
    sent()
    output, error = said("jobs", "stop", "dots", "--cluster", "lab")
    assert output == "asked dots to save and end …\nthe job dots was stopped\n", error
    output, error = said("jobs", "stop", "dots", "--cluster", "lab")
    assert (output, "has ended already: it was stopped" in str(error)) == ("", True)


def test_a_silence_at_the_end_of_all_tries_is_told_with_the_id(head, monkeypatch):
    head.lose_answers = 99
    monkeypatch.setattr(submit.jobs, "list_jobs", lambda cluster, again: [])
    with pytest.raises(ClusterError, match=r"took the job dots is not known: .* --id dots finds it"):
        submit.submit(Cluster(profiles.load("lab")), WORDS, id="dots")


def test_room_is_left_for_the_zip_of_what_travels():
    from ray._private import ray_constants

    assert 0.98 < submit.limit_bytes() / ray_constants.DASHBOARD_CLIENT_MAX_SIZE < 1
