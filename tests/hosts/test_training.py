"""A run over three hosts that loses one to a cut link, gets it back, and has a worker that hangs."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import netns
import pytest
from examples import Watched
from ranks import on_ranks
from training import session

from genloom_platform.train import runs

pytestmark = pytest.mark.hosts
PATIENCE_S = 120


class Driver:
    """A training driven from the first host, and all that it says."""

    def __init__(self, hosts, store):
        words = [
            "global_batch=24", "steps=1000000", "scale.workers=[1, 3]", "scale.cpus_per_worker=2",
            "checkpoint.every=10", "recovery.hung_s=20", "deepspeed.zero_optimization.stage=2",
        ]  # fmt: skip
        self._process = hosts[0].popen(
            [sys.executable, Path(netns.__file__).parent / "driver.py", "example-slow", *words],
            RAY_ADDRESS=hosts.address, GENLOOM_STORE=store.url,
        )  # fmt: skip
        self.run, self.events, self.metrics, self.other, self.state = "", [], {}, [], None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            if not line.startswith("news "):
                self.other.append(line)
                continue
            news = json.loads(line[5:])
            self.run = news.get("run", self.run)
            self.state = news.get("state", self.state)
            self.events += [news["event"]] if "event" in news else []
            if "metrics" in news:
                self.metrics.setdefault(news["step"], []).append(news["metrics"])

    def wait(self, what, condition):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            gone = self._process.poll() is not None and not self.state
            if gone or time.monotonic() > until:
                pytest.fail(f"{what} did not come; events {self.events}; {''.join(self.other[-9:])}")
            time.sleep(0.1)

    def wait_for_steps(self, count):
        """Until so many more steps are done."""
        last = max(self.metrics, default=0)
        self.wait(f"step {last + count}", lambda: max(self.metrics, default=0) >= last + count)

    def wait_for_event(self, words, number=1):
        self.wait(words, lambda: sum(words in event for event in self.events) >= number)


@pytest.fixture(scope="module")
def journey(digits_store):
    """The run, from its start to its end; when it had how many workers is in its history."""
    reason = netns.unavailable()
    if reason:
        pytest.skip(reason)
    with netns.Hosts(3) as hosts:
        hosts[0].start_ray(3)
        for host in list(hosts)[1:]:
            host.start_ray(2)
        driver = Driver(hosts, digits_store)
        driver.wait_for_steps(25)
        (process,) = hosts[1].processes("RayTrainWorker")
        os.kill(process, signal.SIGSTOP)
        stopped_at = time.monotonic()
        driver.wait_for_event("was killed")
        driver.found_s = time.monotonic() - stopped_at
        driver.wait_for_steps(25)
        cut_at = time.monotonic()
        hosts[2].cut()
        driver.wait_for_event("with 2 workers")
        driver.went_on_s = time.monotonic() - cut_at
        driver.wait_for_steps(25)
        hosts[2].restore()
        driver.wait_for_event("with 3 workers", 2)
        driver.wait_for_steps(25)
        hosts.drain(hosts[2])
        driver.wait_for_event("is about to go")
        driver.wait_for_event("with 2 workers", 2)
        driver.wait_for_steps(25)
        runs.ask_to_stop(digits_store, driver.run)
        driver.wait("its end", lambda: driver.state)
        driver.addresses = [host.address for host in hosts]
        yield driver


def attempts(store, driver):
    return [(a.ending, a.workers) for a in runs.history(store, driver.run)]


def test_a_run_trains_over_three_hosts(journey, digits_store):
    logs = [digits_store.read(f"runs/{journey.run}/logs/rank-{rank}.log").decode() for rank in range(3)]
    assert {address for address in journey.addresses for log in logs if f"({address})" in log} == set(
        journey.addresses
    )
    assert attempts(digits_store, journey)[0][1] == 3


def test_a_stopped_worker_is_found_and_replaced(journey, digits_store):
    assert attempts(digits_store, journey)[0] == ("worker hung", 3)
    assert any("was silent for" in event and "was killed" in event for event in journey.events)
    assert journey.found_s < 40  # it counts as hung after 20


def test_a_run_goes_on_without_a_host_that_is_cut_off_and_takes_it_back(journey, digits_store):
    ended = attempts(digits_store, journey)
    assert ("resized", 2) in ended
    assert ("preempted", 3) in ended
    assert journey.went_on_s < 60
    assert journey.state == "stopped"


def test_a_run_saves_at_once_when_a_host_is_about_to_go_and_goes_on_without_it(journey, digits_store):
    history = runs.history(digits_store, journey.run)
    (number,) = [index for index, attempt in enumerate(history) if attempt.ending == "preempted"]
    assert history[number + 1].from_step == history[number].step
    assert (history[-1].ending, history[-1].workers) == ("stopped", 2)


def test_losses_and_rows_are_those_of_an_unbroken_run(journey, digits_store):
    last = max(journey.metrics)
    assert sorted(journey.metrics) == list(range(1, last + 1))
    whole, _ = on_ranks(3, session, digits_store.url, Watched, "unbroken-hosts", last, 2)[0]
    for step, found in journey.metrics.items():
        for metrics in found:  # more than one where a step was done again
            assert metrics["loss"] == pytest.approx(whole[step]["loss"], rel=1e-4)
            # A mean over the workers: the sum over all rows is the same, whatever their number.
            totals = [metrics["sum"] * workers for workers in (3, 2)]
            assert any(total == pytest.approx(3 * whole[step]["sum"], rel=1e-5) for total in totals)
