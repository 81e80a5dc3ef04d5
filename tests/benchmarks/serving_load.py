"""Callers that ask again as soon as they are answered, in one process, over connections that stay open."""

import asyncio
import itertools
import json
import statistics
import time
from dataclasses import dataclass

import aiohttp

TIMEOUT_S = 120


@dataclass(frozen=True)
class Load:
    """What some callers were answered."""

    per_s: float
    median_ms: float
    late_ms: float
    """The 99th percentile."""
    failed: int


def asked(url: str, body, callers: int, seconds: float) -> Load:
    """Let callers ask for a while.

    Args:
        url: Where to.
        body: A request's body by its seed.
        callers: How many at once.
        seconds: For how long, after a second that does not count.
    """
    return asyncio.run(_asked(url, body, callers, seconds))


async def _asked(url, body, callers, seconds):
    seeds, taken, failed = itertools.count(), [], 0
    begin = time.perf_counter() + 1
    end = begin + seconds

    async def call(session):
        nonlocal failed
        while (at := time.perf_counter()) < end:
            async with session.post(url, json=body(next(seeds))) as answer:
                await answer.read()
            if at >= begin:
                taken.append(time.perf_counter() - at)
                failed += answer.status != 200

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(call(session) for _ in range(callers)))
    spread = sorted(taken)
    late = spread[int(len(spread) * 0.99)]
    return Load(len(taken) / seconds, statistics.median(taken) * 1e3, late * 1e3, failed)


@dataclass(frozen=True)
class Written:
    """Texts that were streamed at the same time."""

    first_ms: float
    """The median time to the first piece."""
    chars_per_s: float
    """Of all together."""


def written(url: str, model: str, chars: int, callers: int) -> Written:
    """Stream a text to each of some callers, all at once."""
    return asyncio.run(_written(url, model, chars, callers))


async def _written(url, model, chars, callers):
    first = []

    async def call(session, seed):
        length, at = 0, time.perf_counter()
        body = {"model": model, "prompt": "a", "max_tokens": chars, "seed": seed, "stream": True}
        async with session.post(f"{url}/v1/completions", json=body) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    if not length:
                        first.append(time.perf_counter() - at)
                    length += len(json.loads(line[6:])["choices"][0]["text"])
        assert length == chars

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(call(session, seed) for seed in range(callers)))
        taken = time.perf_counter() - begun
    return Written(statistics.median(first) * 1e3, callers * chars / taken)
