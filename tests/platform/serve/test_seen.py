"""What is seen of a request, and what is not: ids, log lines, figures, and the places that callers take."""

import asyncio
import inspect
import json
import logging
import re

import pytest
from fastapi.testclient import TestClient
from starlette.responses import StreamingResponse

from genloom_platform.serve import keyring, meters
from genloom_platform.serve.app import create_app
from genloom_platform.serve.callers import Callers
from genloom_platform.serve.guard import Guard
from genloom_platform.serve.keyring import Ring
from genloom_platform.serve.limits import Limits, Rate
from genloom_platform.serve.meters import ModelMeters, RequestMeters
from genloom_platform.serve.seen import Seen
from genloom_platform.store import Store

KEY = "k" * 16 + "-marker-of-a-key"
MARKER = "marker-of-a-prompt"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path.as_uri())


@pytest.fixture
def lines(caplog):
    """The log lines so far, read as JSON."""
    caplog.set_level(logging.DEBUG)

    def read() -> list[dict]:
        found = [each for each in caplog.records if each.name == "genloom.requests"]
        return [json.loads(each.getMessage()) for each in found]

    return read


def keyed(store, backend, limits):
    """A client with a named key of these limits."""
    key = keyring.add(store, "web", limits)
    ring = Ring(store)
    ring.look()
    app = create_app(backend, ring=ring)
    return TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)


def draw(client, **prompt):
    return client.post("/v1/generate", json={"model": "drawer", "prompts": [prompt]})


def test_a_request_is_one_line(client, lines):
    answer = draw(client, seed=1)
    (line,) = lines()
    assert line["id"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert 0 < line["first_ms"] <= line["last_ms"]
    known = {key: line[key] for key in ("key", "method", "route", "model", "status", "prompts")}
    assert known == {
        "key": None,
        "method": "POST",
        "route": "/v1/generate",
        "model": "drawer@1",
        "status": 200,
        "prompts": 1,
    }
    assert (line["bytes"], line["whole"], line["refused"]) == (len(answer.content), True, None)


@pytest.mark.parametrize("sent", ["a", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "A.b_c:9" * 18])
def test_a_well_formed_id_is_taken_over(client, lines, sent):
    assert client.get("/v1/models", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent
    assert lines()[0]["id"] == sent


@pytest.mark.parametrize("sent", ["", "two words", "a" * 129, '"}', "é".encode("latin-1"), "a\tb"])
def test_another_is_replaced(client, lines, sent):
    named = client.get("/v1/models", headers={"X-Request-ID": sent}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", named)
    assert lines()[0]["id"] == named


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/nowhere", {}, 404),
        ("/v1/generate", {"model": "nobody", "prompts": [{}]}, 404),
        ("/v1/generate", {"model": "drawer", "prompts": [{"label": 8}]}, 422),
        ("/v1/generate", {"model": "drawer", "prompts": [{"label": 7}]}, 500),
    ],
)
def test_errors_have_an_id_and_a_line_too(client, lines, path, sent, status):
    answer = client.post(path, json=sent)
    assert answer.status_code == status
    (line,) = lines()
    assert line["id"] == answer.headers["x-request-id"]
    assert line["status"] == status
    assert line["route"] == (path if path != "/nowhere" else "none")


def test_health_checks_that_go_well_are_not_logged(client, lines):
    assert client.get("/healthz").headers["x-request-id"]
    assert lines() == []


def test_neither_keys_nor_prompts_are_logged(client_of, drawer, brightness, caplog):
    caplog.set_level(logging.DEBUG)

    class Failing:
        """A model's process that fails, and repeats the prompt in doing so."""

        def models(self):
            return [drawer.card(), brightness.card()]

        async def answer(self, model, prompts):
            raise RuntimeError(f"cannot do {prompts}") from ValueError(str(prompts))

    headers = {"Authorization": f"Bearer {KEY}"}
    prompt = {"prompts": [{"image": MARKER, "note": MARKER}]}
    for client in (
        client_of(drawer, brightness, key=KEY),
        client_of(key=KEY, backend=Failing()),
    ):
        for path in ("predict", "generate", MARKER, f"predict?note={MARKER}"):
            client.post(f"/v1/{path}", json=prompt, headers=headers)
            client.post(f"/v1/{path}", json=prompt, headers={"Authorization": f"Bearer {KEY}wrong"})
            client.post(f"/v1/{path}", content=f"[{MARKER}", headers=headers)
    logged = [f"{each.getMessage()} {each.exc_text} {each.args}" for each in caplog.records]
    ours = "\n".join(
        line
        for line, each in zip(logged, caplog.records, strict=True)
        if not each.name.startswith("httpx")  # the test's own client
    )
    assert "wrong_api_key" in ours
    assert "RuntimeError" in ours
    assert "in answer" in ours  # where it failed is told
    assert MARKER not in ours
    assert "marker-of-a-key" not in ours


def test_a_callers_rate_is_kept_and_told(store, lines, drawer, backend_of):
    client = keyed(store, backend_of(drawer), Limits(rate=Rate.read("2/h")))
    assert [draw(client, seed=1).status_code for _ in range(3)] == [200, 200, 429]
    answer = draw(client, seed=1)
    assert answer.headers["retry-after"] == "1800"
    assert answer.json()["error"]["code"] == "rate_limit"
    assert answer.json()["error"]["message"] == (
        "the key 'web' may send 2 requests an hour; ask again in 1800 s"
    )
    assert (lines()[-1]["key"], lines()[-1]["refused"]) == ("web", "rate_limit")
    assert client.get("/healthz").status_code == 200


def test_no_page_of_another_origin_may_ask_unless_it_was_named(client, drawer, backend_of):
    origin = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/generate", headers=origin).headers
    assert "access-control-allow-origin" not in client.get("/v1/models", headers=origin).headers
    opened = TestClient(
        create_app(backend_of(drawer), origins=("https://app.example",)), base_url="http://127.0.0.1"
    )
    asked = opened.options("/v1/generate", headers=origin)
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    other = opened.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


class Stream:
    """A caller of an app whose answer is a stream, at the level of ASGI."""

    def __init__(self, store: Store) -> None:
        self.going_on = asyncio.Event()
        self.gone = asyncio.Event()
        self.key = keyring.add(store, "one", Limits(concurrent=1))
        ring = Ring(store)
        ring.look()
        self.app = Seen(Guard(self._answer, Callers(None, ring)))

    async def _answer(self, scope, receive, send) -> None:
        async def chunks():
            yield b"first"
            await self.going_on.wait()
            yield b"last"

        await StreamingResponse(chunks())(scope, receive, send)

    async def ask(self, sent: list) -> None:
        scope = {
            "type": "http",
            "asgi": {"spec_version": "2.3"},
            "method": "GET",
            "path": "/v1/stream",
            "headers": [(b"authorization", b"Bearer " + self.key.encode())],
        }

        async def receive():
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("ending", ["end", "disconnect", "cancel"])
def test_a_streams_place_is_free_when_it_ends_or_its_caller_goes_away(store, lines, ending):
    async def run() -> tuple[int, int]:
        stream, first, second, third = Stream(store), [], [], []
        task = asyncio.create_task(stream.ask(first))
        await until(lambda: len(first) == 2)
        await stream.ask(second)  # while the first one runs
        if ending == "end":
            stream.going_on.set()
        elif ending == "disconnect":
            stream.gone.set()
        else:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stream.gone.clear()
        stream.going_on.set()
        await stream.ask(third)
        return second[0]["status"], third[0]["status"]

    assert asyncio.run(run()) == (429, 200)
    refused, ended, after = lines()
    assert refused["refused"] == "concurrency_limit"
    assert (ended["status"], ended["whole"]) == (200, ending == "end")
    assert ended["bytes"] == (9 if ending == "end" else 5)
    assert after["whole"]


def test_a_stream_is_timed_from_its_first_byte_to_its_last(lines):
    clock_s = iter([10.0, 10.25, 12.0])

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message):
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Seen(answer, clock=lambda: next(clock_s))(scope, None, send))
    (line,) = lines()
    assert (line["first_ms"], line["last_ms"], line["bytes"]) == (250.0, 2000.0, 2)


def test_figures_need_no_ray(drawer, backend_of):
    import ray

    running = ray.is_initialized()
    app = create_app(backend_of(drawer), meters=RequestMeters())
    assert draw(TestClient(app, base_url="http://127.0.0.1"), seed=1).status_code == 200
    model = ModelMeters("drawer@1")
    model.waits(1)
    model.batch(3, 0.5)
    model.tokens(7)
    assert ray.is_initialized() is running


def test_the_dashboard_names_metrics_that_there_are(root):
    board = json.loads((root / "deploy/grafana/serving.json").read_text())
    there = set(re.findall(r'"(genloom_serve_[a-z_]+)"', inspect.getsource(meters)))
    named: set[str] = set()
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel["targets"]:
            found = re.findall(r"\bray_(genloom_[a-z_]+)", target["expr"])
            assert found
            named |= {re.sub(r"_seconds_bucket$", "_seconds", each) for each in found}
    named = {re.sub(r"(batch_size)_(sum|count)$", r"\1", each) for each in named}
    assert named == there
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
