"""The client of an endpoint against a scripted HTTP server: what it sends again, and when it gives up."""

import asyncio
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import genloom
from genloom import asking
from genloom.errors import EndpointError, RequestError

LISTING = {"data": [{"id": "teller"}]}
REFUSED = {"error": {"message": "too many; ask again", "type": "x", "param": None, "code": "x"}}


class Scripted:
    """A server that gives the answers of a list, one after the other, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], object]] = []
        self.asked: list[tuple[float, str, object]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers.get("content-length", 0))
                outer.asked.append(
                    (time.monotonic(), self.path, json.loads(self.rfile.read(length) or b"null"))
                )
                status, headers, body = outer.answers.pop(0)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server():
    scripted = Scripted()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_endpoint_puts_off_is_sent_again_when_it_says(server, status):
    server.answers = [(status, {"Retry-After": "1"}, REFUSED), (200, {}, LISTING)]
    assert list(iter(genloom.connect(server.url).models)) == ["teller"]
    (first, *_), (second, *_) = server.asked
    assert 1 <= second - first < 3


def test_on_loopback_no_proxy_is_asked(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.answers = [(200, {}, LISTING)] * 2
    assert list(iter(genloom.connect(server.url, key="k").models)) == ["teller"]

    async def ask():
        async with genloom.connect_async(server.url) as endpoint:
            return await endpoint.models.names()

    assert asyncio.run(ask()) == ["teller"]


def test_the_async_client_does_the_same(server):
    server.answers = [
        (503, {"Retry-After": "0"}, REFUSED),
        (200, {}, LISTING),
        made(genloom.Text("abc")),
    ]

    async def ask():
        async with genloom.connect_async(server.url) as endpoint:
            assert await endpoint.models.names() == ["teller"]
            return await endpoint.models["teller"].generate(start="a")

    assert asyncio.run(ask()) == [genloom.Text("abc")]
    assert server.asked[-1][2] == {"model": "teller", "prompts": [{"start": "a"}]}


def test_a_long_pause_is_not_waited_for(server):
    server.answers = [(429, {"Retry-After": "3600"}, REFUSED)]
    began = time.monotonic()
    with pytest.raises(EndpointError, match="too many; ask again") as refusal:
        list(iter(genloom.connect(server.url).models))
    assert refusal.value.status == 429
    assert time.monotonic() - began < 1


def test_it_gives_up_after_some_tries(server, monkeypatch):
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.001)
    server.answers = [(503, {}, REFUSED)] * 10
    with pytest.raises(EndpointError):
        list(iter(genloom.connect(server.url).models))
    assert len(server.asked) == asking.MAX_TRIES


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 504])
def test_other_refusals_are_final(server, status):
    server.answers = [(status, {"Retry-After": "0"}, REFUSED)]
    with pytest.raises(EndpointError, match="too many; ask again") as refusal:
        list(iter(genloom.connect(server.url).models))
    assert refusal.value.status == status
    assert len(server.asked) == 1


def test_a_date_is_a_pause_too(server):
    server.answers = [
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, REFUSED),
        (200, {}, LISTING),
    ]
    assert list(iter(genloom.connect(server.url).models)) == ["teller"]


def test_where_nothing_listens_it_tries_again_and_then_says_so(server, monkeypatch):
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.001)
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(EndpointError, match="is it served there"):
        list(iter(genloom.connect(server.url).models))


def test_a_stream_is_read_piece_by_piece(server):
    events = b'data: {"seed": 1}\n\ndata: {"piece": "ab"}\n\n: still there\n\ndata: {"piece": "c"}\n\n'
    server.answers = [(200, {}, LISTING), (200, {}, events + b"data: [DONE]\n\n")]
    pieces = list(genloom.connect(server.url).models["teller"].stream(start="x"))
    assert pieces == [genloom.Text("ab"), genloom.Text("c")]
    assert server.asked[-1][1:] == ("/v1/generate/teller?stream=true", {"start": "x"})


@pytest.mark.parametrize(
    ("end", "words"),
    [(b"", "broke the stream off"), (b'data: {"error": {"message": "it failed"}}\n\n', "it failed")],
)
def test_a_stream_that_does_not_end_well_is_told(server, end, words):
    server.answers = [(200, {}, b'data: {"piece": "ab"}\n\n' + end)] * 2

    async def ask():
        async with genloom.connect_async(server.url) as endpoint:
            return [piece async for piece in endpoint.models["teller"].stream()]

    with pytest.raises(EndpointError, match=words):
        asyncio.run(ask())


def test_only_an_endpoint_is_awaited():
    with pytest.raises(RequestError, match="https"):
        genloom.connect_async("file:///somewhere")


GREY = genloom.Image(np.zeros((2, 3), np.uint8))


def made(*samples, seed=5):
    each = [{"sample": sample.to_json(), "seed": seed + n} for n, sample in enumerate(samples)]
    return 200, {}, {"model": "teller@4", "samples": each}


def test_samples_tell_what_makes_them_again(server):
    server.answers = [(200, {}, LISTING), made(GREY, genloom.Text("<b>"))]
    samples = genloom.connect(server.url).models["teller"].generate(count=2, seed=5)
    assert [prompt["seed"] for prompt in server.asked[-1][2]["prompts"]] == [5, 6]
    assert (samples.seeds, samples.model) == ((5, 6), "teller@4")
    assert samples == [GREY, genloom.Text("<b>")]
    assert repr(samples) == "<2 of teller@4: Image 3x2 (seed 5), '<b>' (seed 6)>"
    shown = samples._repr_html_()
    assert "data:image/png;base64," in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_numbers_of_other_packages_are_numbers(server):
    server.answers = [(200, {}, LISTING), made(GREY)]
    fields = {"label": np.int64(3), "scale": np.float32(0.5), "likes": [GREY], "name": "x", "on": True}
    genloom.connect(server.url).models["teller"].generate(**fields)
    (sent,) = server.asked[-1][2]["prompts"]
    assert sent == {"label": 3, "scale": 0.5, "likes": [GREY.to_json()], "name": "x", "on": True}


@pytest.mark.parametrize(
    ("prompts", "fields", "words"),
    [
        ([{}], {"label": 3}, "leave label out"),
        ([{}], {"count": 2}, "leave count out"),
        ({"label": 3}, {}, "it is no list; put it in"),
        (None, {"count": -1}, "give 0 or more"),
        (
            None,
            {"label": float("nan")},
            "label = nan: a float of this kind cannot be sent; give a finite",
        ),
        ([{"of": {"a": object()}}], {}, "of.a = <object"),
    ],
)
def test_what_cannot_be_asked_is_told_before_it_is_sent(server, prompts, fields, words):
    server.answers = [(200, {}, LISTING)]
    model = genloom.connect(server.url).models["teller"]
    with pytest.raises(RequestError, match=re.escape(words)):
        model.generate(prompts, **fields)
    assert len(server.asked) == 1


def test_an_address_of_another_kind_is_told_what_there_is():
    with pytest.raises(RequestError, match="give http://"):
        genloom.connect("ftp://somewhere")
