"""What listens for an endpoint: how it begins and ends, and heads of requests that are slow or large."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from genloom_platform.serve import listener
from genloom_platform.serve.listener import Address, Listener


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            done = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{done}.complete"})
            if done == "shutdown":
                return
    await asyncio.sleep(0.3 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"made"})


@asynccontextmanager
async def listening(at=None):
    at = at or Address("127.0.0.1", free_port())
    begun = Listener(app, at)
    await begun.begin()
    try:
        yield begun, at
    finally:
        await begun.end()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_requests_under_way_are_answered_before_it_ends():
    async def ended_meanwhile():
        async with listening() as (begun, at), httpx.AsyncClient(trust_env=False) as client:
            asked = asyncio.create_task(client.get(f"http://127.0.0.1:{at.port}/slow"))
            await asyncio.sleep(0.1)
            await begun.end()
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{at.port}/")
            return (await asked).text

    assert run(ended_meanwhile()) == "made"


def test_one_that_replaces_another_listens_before_that_ends():
    async def replaced():
        async with (
            listening() as (first, at),
            listening(at),
            httpx.AsyncClient(trust_env=False) as client,
        ):
            await first.end()
            return [(await client.get(f"http://127.0.0.1:{at.port}/")).text for _ in range(8)]

    assert run(replaced()) == ["made"] * 8


def test_a_port_that_another_program_uses_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        Listener(app, Address("127.0.0.1", other.getsockname()[1]))


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "])
def test_a_head_that_does_not_end_is_given_up(monkeypatch, sent):
    monkeypatch.setattr(listener, "HEAD_S", 0.2)

    async def slowly():
        async with listening() as (_, at):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            begun = time.monotonic()
            writer.write(sent)
            answer = await reader.read()
            writer.close()
            return answer, time.monotonic() - begun

    answer, taken_s = run(slowly())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.15 < taken_s < 5


def test_the_head_of_a_later_request_is_awaited_as_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(listener, "HEAD_S", 0.3)

    async def twice():
        async with listening() as (_, at):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            first = await reader.readuntil(b"made")
            await asyncio.sleep(0.4)  # between requests it may rest for longer
            writer.write(b"GET / HTTP/1.1\r\n")
            return first, await reader.read()

    first, second = run(twice())
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.endswith(b"took too long")


def test_a_head_that_is_too_large_is_refused_before_it_is_read():
    async def largely():
        async with listening() as (_, at):
            reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
            answering = asyncio.create_task(reader.read())
            sent = 0
            while not answering.done() and sent < 1 << 24:
                writer.write(b"X-A: " + b"a" * 8000 + b"\r\n")
                sent += 8000
                await asyncio.sleep(0.001)
            return sent, await answering

    sent, answer = run(largely())
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert sent < 1 << 21
