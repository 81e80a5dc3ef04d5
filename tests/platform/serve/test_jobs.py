"""Requests that are answered later: real models in this process, and a real store."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from local_endpoint import LocalBackend
from starlette.middleware import Middleware

import genloom
from genloom_platform.serve.app import create_app
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.jobs import runner as runner_module
from genloom_platform.serve.jobs.desk import Desk
from genloom_platform.serve.jobs.record import End, Records
from genloom_platform.serve.jobs.runner import Runner
from genloom_platform.serve.jobs.settings import JobSettings
from genloom_platform.serve.seen import notes_of
from genloom_platform.store import Store
from genloom_platform.train import lock

URL = "http://127.0.0.1:8000"
IN_TIME_S = 20


class Slowly(LocalBackend):
    """Answers only while it is let."""

    def __init__(self, *models):
        super().__init__(*models)
        self.let, self.asked = True, 0

    async def answer(self, model, prompts):
        self.asked += 1
        while not self.let:
            await asyncio.sleep(0.01)
        return await super().answer(model, prompts)


class Named:
    """Stands behind the guard, which knows keys by name: here the caller says which."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            key = dict(scope["headers"]).get(b"x-caller", b"").decode()
            notes_of(scope).key = key or None
        await self._app(scope, receive, send)


def named(app):
    """An app whose callers say who they are."""
    app.user_middleware.append(Middleware(Named))
    return app


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "SETTLE_S", 0.0)
    monkeypatch.setattr(runner_module, "LOOK_S", 0.05)
    monkeypatch.setattr(runner_module, "RETRY_S", 0.01)


@pytest.fixture
def store(tmp_path):
    return Store((tmp_path / "store").as_uri())


@pytest.fixture
def backend(drawer, counter, brightness):
    return Slowly(drawer, counter, brightness)


@pytest.fixture
def gateway(store, backend):
    """Start a gateway over the store, as often as a test likes; its jobs run while the block lasts."""

    @contextmanager
    def start(other=None, url=URL, **settings):
        desk = Desk(store, url, other or backend, JobSettings(**settings))
        with TestClient(named(create_app(other or backend, desk=desk)), base_url=URL) as client:
            client.desk = desk
            yield client

    return start


def send(client, *prompts, path="/v1/generate?async=true", model="drawer", **headers):
    return client.post(path, json={"model": model, "prompts": list(prompts)}, headers=headers)


def caller(name):
    return {"X-Caller": name}


def ended(client, job, **headers):
    """The job, once it has ended."""
    until = time.monotonic() + IN_TIME_S
    while (found := client.get(f"/v1/jobs/{job['id']}", headers=headers).json())["status"] in (
        "queued",
        "running",
    ):
        assert time.monotonic() < until, found
        time.sleep(0.02)
    return found


def becomes(client, job, status):
    until = time.monotonic() + IN_TIME_S
    while client.get(f"/v1/jobs/{job['id']}").json()["status"] != status:
        assert time.monotonic() < until
        time.sleep(0.02)


def code_of(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_job_gives_later_what_the_request_gives_at_once(gateway, store):
    prompts = [{"seed": seed, "label": seed % 7} for seed in range(20)]
    with gateway() as client:
        taken = send(client, *prompts)
        assert taken.status_code == 202
        job = taken.json()
        assert taken.headers["location"] == f"/v1/jobs/{job['id']}"
        assert (job["object"], job["model"], job["total"]) == ("job", "drawer@1", 20)
        assert job["status"] in ("queued", "running", "succeeded")
        done = ended(client, job)
        assert (done["status"], done["done"], done["error"]) == ("succeeded", 20, None)
        assert done["result"] == f"/v1/jobs/{job['id']}/result"
        assert done["expires"] - done["ended"] == 24 * 3600
        assert client.get(done["result"]).json() == send(client, *prompts, path="/v1/generate").json()
    picture = store.read(f"jobs/{job['id']}/samples/0007.png")
    assert genloom.Image.from_bytes(picture).array.shape == (8, 8, 1)


def test_texts_and_predictions_and_single_prompts_are_jobs_too(gateway):
    form = {"seed": (None, "3"), "label": (None, "2")}
    with gateway() as client:
        jobs = [
            send(client, {"seed": 1}, model="counter").json(),
            client.post("/v1/generate/drawer?async=true", json={"seed": 3}).json(),
            client.post("/v1/generate/drawer?async=true", files=form).json(),
        ]
        results = [client.get(ended(client, job)["result"]).json()["samples"] for job in jobs]
        assert results[0][0]["sample"] == "1"
        assert results[1][0]["sample"] == results[2][0]["sample"]
        assert results[2][0]["prompt"] == {"seed": 3, "label": 2, "like": None}
        picture = results[1][0]["sample"]
        job = send(client, {"image": picture}, path="/v1/predict?async=true", model="brightness").json()
        (answer,) = client.get(ended(client, job)["result"]).json()["predictions"]
        assert 0 < answer["value"] < 1


def test_a_seed_that_was_not_given_is_drawn_when_the_job_is_taken(gateway, store):
    with gateway() as client:
        job = send(client, {}).json()
        ended(client, job)
        (sample,) = client.get(f"/v1/jobs/{job['id']}/result").json()["samples"]
        assert Records(store).request(job["id"]).prompts == ({"seed": sample["seed"]},)


@pytest.mark.parametrize(
    ("query", "prompts", "code"),
    [
        ("async=true", [{"label": 55}], "invalid_prompt"),
        ("async=true", [{"lable": 1}], "invalid_prompt"),
        ("async=true", [], "invalid_request"),
        ("async=true", [{}] * 257, "invalid_request"),
        ("async=maybe", [{}], "invalid_request"),
        ("async=true&format=webp", [{}], "invalid_request"),
        ("async=true&stream=true", [{}], "invalid_request"),
    ],
)
def test_what_is_wrong_is_told_before_a_job_is_taken(gateway, query, prompts, code):
    with gateway() as client:
        assert code_of(send(client, *prompts, path=f"/v1/generate?{query}")) == (422, code)
        assert client.get("/v1/jobs").json()["data"] == []
        assert send(client, {}, path="/v1/generate?async=false").status_code == 200


def test_an_endpoint_without_a_store_takes_no_jobs(client_of, drawer):
    client = client_of(drawer)
    assert code_of(send(client, {})) == (422, "unknown_parameter")
    assert client.get("/v1/jobs").status_code == 404


def test_a_job_fails_with_what_the_request_would_have_been_told(gateway, caplog):
    with gateway() as client:
        prompts = [{"seed": 1}] * 17 + [{"label": 8}]
        job = ended(client, send(client, *prompts).json())
        assert (job["status"], job["done"]) == ("failed", 16)
        assert job["error"]["code"] == "invalid_prompt"
        answer = client.get(f"/v1/jobs/{job['id']}/result")
        assert answer.status_code == 422
        assert answer.json()["error"] == job["error"]
        failed = ended(client, send(client, {"label": 7, "seed": 4711}).json())
        assert failed["error"]["code"] == "internal_error"
    assert "secret" not in json.dumps(failed)
    assert failed["error"]["message"].rsplit(" ", 1)[1] in caplog.text
    assert "4711" not in caplog.text


def test_a_refusal_names_the_prompt_as_if_all_were_sent_at_once():
    refusal = Refusal(500, "model_failed", "prompts.3: it failed", param="prompts.3", kind=SERVER)
    moved = runner_module._counted_on(refusal, 32)
    assert (moved.body.message, moved.body.param) == ("prompts.35: it failed", "prompts.35")


def test_a_job_of_another_key_is_as_if_it_were_not_there(gateway):
    with gateway() as client:
        job = send(client, {}, **caller("ann")).json()
        assert ended(client, job, **caller("ann"))["status"] == "succeeded"
        for other in ({}, caller("bob")):
            for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
                answer = client.request(method, f"/v1/jobs/{job['id']}{path}", headers=other)
                assert code_of(answer) == (404, "job_not_found")
            assert client.get("/v1/jobs", headers=other).json()["data"] == []
        assert len(client.get("/v1/jobs", headers=caller("ann")).json()["data"]) == 1
    with gateway(url="http://127.0.0.1:9000") as elsewhere:
        answer = elsewhere.get(f"/v1/jobs/{job['id']}", headers=caller("ann"))
        assert answer.status_code == 404


@pytest.mark.parametrize("name", ["job_1", "..", "job_" + "g" * 32, "job_" + "0" * 32])
def test_a_name_that_is_no_job_is_not_looked_for(gateway, name):
    with gateway() as client:
        assert client.get(f"/v1/jobs/{name}").status_code == 404


def test_jobs_are_paged_the_newest_first(gateway):
    with gateway() as client:
        sent = [send(client, {}).json()["id"] for _ in range(5)]
        first = client.get("/v1/jobs?limit=2").json()
        assert [job["id"] for job in first["data"]] == sent[:2:-1]
        assert first["has_more"]
        rest = client.get(f"/v1/jobs?limit=3&after={sent[3]}").json()
        assert [job["id"] for job in rest["data"]] == sent[2::-1]
        assert not rest["has_more"]
        for wrong in ("limit=0", "limit=101", "limit=x", "limit=²", "page=2"):
            assert client.get(f"/v1/jobs?{wrong}").status_code == 422
        assert client.get("/v1/jobs?after=job_1").status_code == 404


def test_a_job_that_waits_or_runs_is_cancelled_and_its_prompts_are_removed(gateway, backend, store):
    backend.let = False
    with gateway(at_once=1) as client:
        running, waiting = (send(client, {"seed": seed}).json() for seed in range(2))
        becomes(client, running, "running")
        answer = client.get(f"/v1/jobs/{running['id']}/result")
        assert code_of(answer) == (409, "job_not_done")
        assert answer.headers["retry-after"] == "2"
        for job in (running, waiting):
            assert client.delete(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"
            assert code_of(client.get(f"/v1/jobs/{job['id']}/result")) == (409, "job_cancelled")
            assert Records(store).request(job["id"]) is None
        backend.let = True
        assert ended(client, send(client, {}).json())["status"] == "succeeded"
        assert client.get(f"/v1/jobs/{running['id']}").json()["done"] == 0


def test_a_job_is_cancelled_by_another_gateway(gateway, backend):
    backend.let = False
    with gateway() as one:
        job = send(one, {}).json()
        becomes(one, job, "running")
        with gateway() as other:
            assert other.delete(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"
        until = time.monotonic() + IN_TIME_S
        while Records(one.desk.records.store).is_held(job["id"]):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert one.get(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"


def test_what_a_job_made_is_removed_on_demand(gateway, store):
    with gateway() as client:
        job = ended(client, send(client, {}).json())
        gone = client.delete(f"/v1/jobs/{job['id']}").json()
        assert (gone["status"], gone["result"]) == ("expired", None)
        assert client.delete(f"/v1/jobs/{job['id']}").json()["status"] == "expired"
        assert code_of(client.get(f"/v1/jobs/{job['id']}/result")) == (410, "job_expired")
    assert store.names(f"jobs/{job['id']}/samples") == []


def test_a_job_that_a_gateway_left_goes_on_after_what_is_kept(gateway, backend, store):
    prompts = [{"seed": seed} for seed in range(40)]
    with gateway() as client:
        expected = send(client, *prompts, path="/v1/generate").json()
        backend.let = False
        job = send(client, *prompts).json()
        becomes(client, job, "running")
    assert not Records(store).is_held(job["id"])
    kept = expected["samples"][16:32]
    Records(store).keep(job["id"], 16, kept)
    backend.let, backend.asked = True, 0
    with gateway() as client:
        assert ended(client, job)["status"] == "succeeded"
        assert client.get(f"/v1/jobs/{job['id']}/result").json() == expected
    assert backend.asked == 2


def test_a_job_whose_gateway_was_killed_is_taken_up_and_one_that_another_runs_is_not(gateway, store):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    with gateway(at_once=1) as client:
        client.desk.backend.let = False
        blocker, first, second = (send(client, {}).json() for _ in range(3))
        becomes(client, blocker, "running")
        for job, process in ((first, killed.pid), (second, os.getppid())):
            me = lock.Holder(token="t", host=os.uname().nodename, process=process, at=time.time())
            store.write(f"jobs/{job['id']}/lock.json", me.model_dump_json().encode())
        client.desk.backend.let = True
        assert ended(client, first)["status"] == "succeeded"
        assert client.get(f"/v1/jobs/{second['id']}").json()["status"] == "running"


def test_a_job_whose_model_is_served_no_longer_is_told_so(gateway, counter, monkeypatch):
    with gateway(LocalBackend(counter)) as client:
        client.desk.backend.models = list
        job = send(client, {}, model="counter").json()
        time.sleep(0.2)
        assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"
        monkeypatch.setattr(runner_module, "UNSERVED_S", 0.0)
        failed = ended(client, job)
    assert failed["error"]["code"] == "model_not_found"
    assert "counter@2 is served here no longer" in failed["error"]["message"]


def test_a_model_that_is_being_started_is_asked_again(gateway, backend, monkeypatch):
    refusals = [
        Refusal(503, "model_stopped", "…", headers={"Retry-After": "0"}),
        Refusal(503, "x", "…"),
    ]
    answer = backend.answer

    async def first_refuse(model, prompts):
        if refusals:
            raise refusals.pop()
        return await answer(model, prompts)

    monkeypatch.setattr(backend, "answer", first_refuse)
    with gateway() as client:
        assert ended(client, send(client, {}).json())["status"] == "succeeded"
    assert not refusals


def test_a_model_that_takes_too_long_is_given_up(gateway, backend):
    backend.let = False
    with gateway(run_s=0.05) as client:
        job = ended(client, send(client, {}).json())
        assert (job["status"], job["error"]["code"]) == ("failed", "answer_timeout")
        assert client.get(f"/v1/jobs/{job['id']}/result").status_code == 504


def test_jobs_are_bounded_for_a_caller_and_for_all(gateway, backend):
    backend.let = False
    with gateway(most_active_of_caller=2, most_active=3, at_once=1) as client:
        mine = [send(client, {}, **caller("ann")) for _ in range(3)]
        assert [answer.status_code for answer in mine] == [202, 202, 429]
        assert mine[2].headers["retry-after"] == "10"
        theirs = [send(client, {}, **caller("bob")) for _ in range(2)]
        assert [answer.status_code for answer in theirs] == [202, 503]
        assert code_of(theirs[1]) == (503, "overloaded")
        assert theirs[1].headers["retry-after"] == "10"
    backend.let = True
    with gateway(most_kept_of_caller=2, most_kept=3) as client:
        ended(client, theirs[0].json(), **caller("bob"))
        for job in mine[:2]:
            ended(client, job.json(), **caller("ann"))
        assert "DELETE" in send(client, {}, **caller("ann")).json()["error"]["message"]
        full = send(client, {}, **caller("eve"))
        assert (full.status_code, full.headers["retry-after"]) == (503, "600")


def test_no_caller_waits_for_all_jobs_of_another(gateway, backend):
    backend.let = False
    with gateway(at_once=2) as client:
        many = [send(client, {}, **caller("ann")).json() for _ in range(4)]
        becomes_of = {"X-Caller": "ann"}
        until = time.monotonic() + IN_TIME_S
        while client.get(f"/v1/jobs/{many[1]['id']}", headers=becomes_of).json()["status"] != "running":
            assert time.monotonic() < until
            time.sleep(0.02)
        one = send(client, {}, **caller("bob")).json()
        client.delete(f"/v1/jobs/{many[0]['id']}", headers=becomes_of)
        until = time.monotonic() + IN_TIME_S
        while client.get(f"/v1/jobs/{one['id']}", headers=caller("bob")).json()["status"] != "running":
            assert time.monotonic() < until
            time.sleep(0.02)
        last = client.get(f"/v1/jobs/{many[2]['id']}", headers=becomes_of).json()
        assert last["status"] == "queued"


def test_the_same_idempotency_key_gives_the_same_job(gateway):
    key = {"Idempotency-Key": "song-1"}
    with gateway(most_active_of_caller=1, most_kept_of_caller=1) as client:
        first, again = (send(client, {"label": 1}, **key) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        assert code_of(send(client, {"label": 2}, **key)) == (422, "idempotency_key_reused")
        other = send(client, {"label": 2}, **key, **caller("bob"))
        assert other.json()["id"] != first.json()["id"]
        for wrong in ("", "k" * 256):
            answer = send(client, {}, **{"Idempotency-Key": wrong})
            assert code_of(answer) == (422, "invalid_idempotency_key")
    with gateway() as restarted:
        again = send(restarted, {"label": 1}, **key)
        assert again.json()["id"] == first.json()["id"]


def test_two_at_the_same_time_with_one_key_make_one_job(gateway, backend, drawer):
    with gateway() as client:
        desk = client.desk

        async def both():
            desk._turn = asyncio.Lock()
            desk.accepted = asyncio.Event()
            asked = [desk.accept("", drawer.card(), [{"seed": 1}], "k") for _ in range(4)]
            return await asyncio.gather(*asked)

        asyncio.run(both())
        assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_a_job_expires_with_what_it_made_and_is_forgotten_later(gateway, store, monkeypatch):
    with gateway(kept_s=1000) as client:
        made, failed = send(client, {}).json(), send(client, {"label": 8}).json()
        for job in (made, failed):
            ended(client, job)
        client.desk.backend.let = False
        waiting = send(client, {}).json()
        jobs = (made, failed, waiting)
        sweep, now = Runner(client.desk).sweep, time.time()
        sweep()
        assert store.exists(f"jobs/{made['id']}/samples/0000.png")
        monkeypatch.setattr(time, "time", lambda: now + 1001)
        assert client.get(f"/v1/jobs/{made['id']}").json()["status"] == "expired"
        sweep()
        for job in jobs:
            assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "expired"
            assert client.get(f"/v1/jobs/{job['id']}/result").status_code in (410, 422)
            assert store.names(f"jobs/{job['id']}/answers") == []
            assert Records(store).request(job["id"]) is None
        monkeypatch.setattr(time, "time", lambda: now + 2100)
        sweep()
        assert client.get("/v1/jobs").json()["data"] == []
        assert store.names("jobs") == []


def test_whoever_ends_a_job_first_is_right(store, gateway):
    with gateway() as client:
        job = ended(client, send(client, {}).json())
    others = [Records(store) for _ in range(2)]
    for records in others:
        assert records.end(job["id"], End(status="cancelled")).status == "succeeded"


def test_an_acceptance_that_was_cut_off_is_cleared_away(store, gateway):
    store.write(f"jobs/job_{'0' * 32}/request.json", b"{}")
    with gateway(kept_s=0.001) as client:
        time.sleep(0.01)
        Runner(client.desk).sweep()
    assert store.names("jobs") == []


def test_prompts_are_in_no_log(gateway, caplog):
    caplog.set_level(logging.DEBUG)
    with gateway() as client:
        for label in (1, 7, 8):
            ended(client, send(client, {"seed": 987654321, "label": label}).json())
    assert "987654321" not in caplog.text


def test_a_store_that_is_away_is_told_and_jobs_go_on_when_it_is_back(gateway, store):
    with gateway() as client:
        job = ended(client, send(client, {}).json())
        client.desk.records.store = Store("file:///proc/none")
        refused = send(client, {})
        assert (code_of(refused), refused.headers["retry-after"]) == ((503, "store_away"), "10")
        client.desk.records.store = store
        assert ended(client, send(client, {}).json())["status"] == "succeeded"
        assert client.get(job["result"]).status_code == 200


def test_jobs_are_described(gateway):
    with gateway() as client:
        described = client.get("/openapi.json").json()
    assert set(described["paths"]["/v1/jobs/{id}"]) == {"get", "delete"}
    for path in ("/v1/generate", "/v1/predict", "/v1/generate/drawer", "/v1/predict/brightness"):
        post = described["paths"][path]["post"]
        names = [parameter["name"] for parameter in post["parameters"]]
        assert {"async", "Idempotency-Key"} <= set(names)
        assert "JobAnswer" in json.dumps(post["responses"]["202"])
    assert "409" in described["paths"]["/v1/jobs/{id}/result"]["get"]["responses"]
