"""Jobs as handles: what a notebook shows, what is waited for, with a job server that tells what it likes."""

import json

import pytest
import ray
from answering import answering

from genloom.errors import ClusterError
from genloom_platform.jobs import card
from genloom_platform.jobs.client import Cluster
from genloom_platform.jobs.handles import RemoteEndpoint, RemoteJob, RemoteRun, RemoteSweep, handle
from genloom_platform.jobs.job import Job
from genloom_platform.profiles import Profile

SENT = {
    "type": "SUBMISSION", "submission_id": "vae-1", "job_id": None, "entrypoint": "genloom train a.yaml <b>",
    "status": "RUNNING", "start_time": 1000, "end_time": 63000, "message": "", "metadata": {},
}  # fmt: skip


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that a server tells of, with their logs; and a cluster that is reached there."""
    told, logs = [dict(SENT)], {"vae-1": "run vae-1\n<script>alert(1)</script> & more\n"}

    def body(path):
        found = {"/api/version": {"ray_version": ray.__version__}, "/api/jobs/": told, "/healthz": {}}
        for job in told:
            name = job["submission_id"]
            found |= {f"/api/jobs/{name}": job, f"/api/jobs/{name}/logs": {"logs": logs[name]}}
        return json.dumps(found[path]).encode()

    monkeypatch.setenv("LAB_OPENS", "t" * 32)
    with answering(body) as url:
        values = {"address": url, "endpoint": url, "token": {"env": "LAB_OPENS"}}
        yield told, logs, Cluster(Profile.model_validate(values, context={"name": "lab"}))


def test_a_card_tells_the_state_and_the_end_of_the_log_and_takes_no_markup_from_them(jobs):
    *_, cluster = jobs
    shown = card.html(Job(cluster, "vae-1"))
    assert "<b>vae-1</b> on lab: " in shown
    assert ">running</b>, 1 min 2 s" in shown
    assert "genloom train a.yaml &lt;b&gt;" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in shown
    assert "<script>" not in shown


def test_a_card_of_a_job_that_is_not_there_says_so(jobs):
    *_, cluster = jobs
    assert "did you mean &#x27;vae-1&#x27;?" in card.html(Job(cluster, "vae-2"))


def test_what_a_job_started_is_found_by_its_command(jobs):
    told, _, cluster = jobs
    for words, kind in (
        ("genloom train a", RemoteRun), ("genloom finetune a", RemoteRun), ("genloom sweep a", RemoteSweep),
        ("genloom serve a", RemoteEndpoint), ("genloom data list", RemoteJob), ("sleep 1", RemoteJob),
    ):  # fmt: skip
        told[0]["entrypoint"] = words
        assert type(handle(Job(cluster, "vae-1"))) is kind
    assert repr(RemoteRun(Job(cluster, "vae-1"))) == "<run vae-1 on lab>"


def test_an_endpoint_is_waited_for_until_its_command_serves_and_one_that_ended_is_told(jobs):
    told, logs, cluster = jobs
    told[0]["entrypoint"], logs["vae-1"] = "genloom serve a", ""
    endpoint = handle(Job(cluster, "vae-1"))
    with pytest.raises(TimeoutError, match="does not answer after 0"):
        endpoint.wait(timeout_s=0)
    logs["vae-1"] = "serving a at http://127.0.0.1:8000; its page is …\n"
    assert endpoint.wait(timeout_s=0) is endpoint
    told[0]["status"] = "STOPPED"
    with pytest.raises(ClusterError, match="was stopped, and serves nothing any more"):
        endpoint.wait()
    told[0] |= {"status": "FAILED", "driver_exit_code": 2}
    logs["vae-1"] = "error: there is no model 'a'\n"
    with pytest.raises(ClusterError, match="failed with status 2:\n  error: there is no model 'a'"):
        endpoint.wait()
