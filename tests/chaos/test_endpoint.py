"""An endpoint at a rising load, while processes are killed and versions change: nothing that it takes is lost."""

import asyncio
import itertools
import os
import random
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "platform" / "serve"))

import ray
import rollout_toys as toys
from killing import kill, processes

from genloom_platform.serve import keys, launch, wanted
from genloom_platform.store import Store

pytestmark = pytest.mark.chaos
REQUESTS = int(os.environ.get("GENLOOM_CHAOS_REQUESTS", "10000"))
CALLERS = (4, 16, 64, 160, 320)
"""At once, one number after the other: the last are more than the endpoint takes."""
CHANGE_S = 120
GROWTH = 1.25
"""How much more memory the gateway may hold at the end than after a tenth of the requests, as a share."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    made = toys.Folder(tmp_path_factory.mktemp("shelf"))
    made.promote("champion", 1)
    made.promote("candidate", 3)
    return made


@pytest.fixture(scope="module")
def url(shelf, tmp_path_factory):
    """A model on two replicas, with a canary that fails."""
    ray.cloudpickle.register_pickle_by_value(toys)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    trial = {"version": "teller@candidate", "share": "20%", "min_requests": 100}
    model = {"model": "teller@champion", "cpus": 0.1, "replicas": 2, "canary": trial}
    store = Store(tmp_path_factory.mktemp("store").as_uri())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(keys.VARIABLE, raising=False)
        asked = wanted.checked({"models": [model], "port": port}, "the test")
        yield launch.start_shelf(asked, shelf, store)
    launch.stop()
    ray.shutdown()


class Callers:
    """Send the requests, each again where it is told to wait, and keep what became of each."""

    def __init__(self, url, happenings, last):
        self._url, self._happenings, self._last = url, happenings, last
        self.seeds = itertools.count()
        self.done, self.statuses, self.versions = 0, Counter(), Counter()
        self.samples, self.wrong, self.held = {}, [], []

    async def run(self):
        timeout = aiohttp.ClientTimeout(120)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            for number, at_once in enumerate(CALLERS, 1):
                await self._load(session, at_once, REQUESTS * number // len(CALLERS))
            # A promotion takes as long as the start of processes, however quick requests are answered.
            deadline = time.monotonic() + CHANGE_S
            while self.versions["teller@4"] < REQUESTS // 10 and time.monotonic() < deadline:
                await self._load(session, 16, self.done + REQUESTS // 10)
            await asyncio.to_thread(self._last)
            await self._load(session, 16, self.done + REQUESTS // 5)

    async def _load(self, session, at_once, until):
        await asyncio.gather(*(self._call(session, until) for _ in range(at_once)))

    async def _call(self, session, until):
        while self.done < until:
            await self._ask(session, next(self.seeds))
            self.done += 1
            if self.done % (REQUESTS // 10) == 0:
                self.held.append(sum(each.memory_info().rss for each in processes("genloom:Gateway")))
            if happening := self._happenings.pop(self.done, None):
                await asyncio.to_thread(happening)

    async def _ask(self, session, seed):
        body = {"model": "teller", "prompts": [{"seed": seed % 500, "wait_s": 0.001}]}
        while True:
            async with session.post(f"{self._url}/v1/generate", json=body) as answer:
                told = await answer.json()
                self.statuses[answer.status] += 1
                if answer.status == 503 and answer.headers.get("Retry-After"):
                    await asyncio.sleep(random.uniform(0.5, 1) * float(answer.headers["Retry-After"]))
                    continue
            if answer.status != 200:
                self.wrong.append((answer.status, told))
            else:
                self.versions[told["model"]] += 1
                number = told["samples"][0]["sample"].split()[0]
                if self.samples.setdefault(seed % 500, number) != number:
                    self.wrong.append((seed, number))
            return


def test_nothing_that_is_taken_is_lost_while_processes_die_and_versions_change(url, shelf):
    happenings = {
        REQUESTS * 3 // 10: lambda: kill("genloom.teller@1"),
        REQUESTS // 2: lambda: shelf.promote("champion", 4),
        REQUESTS * 7 // 10: lambda: kill("genloom:Keeper"),
    }
    callers = Callers(url, happenings, lambda: kill("genloom.teller@4", -1))
    asyncio.run(callers.run())
    print(
        f"\n{callers.statuses}, {callers.versions}, MB of the gateway {[b >> 20 for b in callers.held]}"
    )
    assert callers.wrong == []
    assert callers.statuses[200] >= REQUESTS
    assert set(callers.statuses) <= {200, 503}
    assert set(callers.versions) == {"teller@1", "teller@4"}
    assert callers.versions["teller@4"] >= REQUESTS // 5  # also after one of its processes was killed
    assert any("teller@3 is taken back" in text for _, text in launch.state().news)
    assert callers.held[-1] < GROWTH * callers.held[0]
