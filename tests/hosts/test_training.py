"""One training that a laptop sends to three hosts, and all that befalls it.

A worker hangs, the laptop goes, a link is cut and comes back, a host is told to go, a host dies, and at last the
head. It ends as one that nothing befell.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from genloom_platform.store import Store
from genloom_platform.train import checkpoint, runs

pytestmark = [pytest.mark.hosts, pytest.mark.chaos]
PATIENCE_S = 120
RUN = "journey"


class Journey:
    """The training as its store tells of it, and when what befell it."""

    def __init__(self, lab):
        self.lab = lab
        self.store = Store(
            lab.services.objects.as_uri()
        )  # read as files: the laptop has no way into it
        self.brake = lab.laptop.work / "brake"
        self.found_s = self.went_on_s = 0.0

    def submit(self, *options):
        words = ["genloom", "submit", "--id", RUN, *options, "--", "train", "run.yaml"]
        return [*words, f"brake={self.brake}"]

    @property
    def log(self):
        """What the job printed; under the head that runs now."""
        logs = Path(self.lab.cluster[0].folder).glob("session_2*/logs/job-driver-journey.log")
        return " ".join(max(logs, key=lambda path: path.stat().st_mtime).read_text().split())

    def wait(self, what, condition, timeout_s=PATIENCE_S):
        """Until something is so; returns how long that took."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                pytest.fail(f"{what} did not come; {self.endings()}; {self.log[-2000:]}")
            time.sleep(0.2)
        return time.monotonic() - began

    def endings(self):
        """How its attempts ended, and with how many workers."""
        return [(attempt.ending, attempt.workers) for attempt in runs.history(self.store, RUN)]

    def wait_for_end_of_attempt(self, ending, workers, **options):
        return self.wait(
            f"{ending} with {workers}", lambda: (ending, workers) in self.endings(), **options
        )

    def wait_for_a_checkpoint(self):
        """Until another is committed."""
        before = self.saved
        self.wait(f"a checkpoint after step {before}", lambda: self.saved > before)

    @property
    def saved(self):
        """The step of the newest checkpoint."""
        return max(checkpoint.committed(self.store, RUN), default=0)

    def workers(self, host):
        return host.processes("RayTrainWorker")


def a_worker_hangs(journey, host):
    (process,) = journey.workers(host)
    os.kill(process, signal.SIGSTOP)
    journey.found_s = journey.wait_for_end_of_attempt("worker hung", 3)
    journey.wait_for_a_checkpoint()


def the_laptop_goes(journey, follower):
    for process in journey.lab.laptop.host.processes("genloom"):
        os.kill(process, signal.SIGKILL)
    follower.communicate()


def a_link_is_cut(journey, host):
    began = time.monotonic()
    host.cut()
    journey.wait("two workers", lambda: "with 2 workers" in journey.log)
    journey.wait_for_a_checkpoint()
    journey.went_on_s = time.monotonic() - began
    host.restore()
    journey.wait_for_end_of_attempt("resized", 2)
    journey.wait_for_a_checkpoint()


def a_host_is_told_to_go(journey, host):
    journey.lab.drain(host)
    journey.wait_for_end_of_attempt("preempted", 3)
    journey.wait_for_a_checkpoint()


def a_host_dies(journey, host):
    host.kill_all()
    journey.wait("one worker", lambda: re.search(r"with 1 worker\b", journey.log))
    journey.wait_for_a_checkpoint()


def the_head_dies(journey):
    before = journey.saved
    for host in journey.lab.cluster:  # with the head the others lose their cluster, and end
        host.kill_all()
    journey.lab.start()
    head = journey.lab.cluster[0]
    status, output = head.run(["genloom", "jobs", "restart"], RAY_ADDRESS=journey.lab.address)
    assert (status, "journey is started again" in output) == (0, True), output
    journey.wait("to go on", lambda: journey.saved > before)


@pytest.fixture(scope="module")
def journey(lab):
    """The training, from its start to its end, and the job's state at the end."""
    journey = Journey(lab)
    _, second, third = lab.cluster
    journey.brake.touch()
    follower = lab.laptop.popen(*journey.submit("--follow"))
    journey.wait_for_a_checkpoint()
    a_worker_hangs(journey, second)
    the_laptop_goes(journey, follower)
    a_link_is_cut(journey, third)
    a_host_is_told_to_go(journey, third)
    a_host_dies(journey, second)
    follower = lab.laptop.popen("genloom", "jobs", "logs", "--follow", RUN)
    follower.stdout.readline()  # it looks
    the_head_dies(journey)
    journey.again = lab.laptop(*journey.submit())
    journey.brake.unlink()
    try:
        journey.seen, _ = follower.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        follower.kill()
        pytest.fail(
            f"the follower sees no end: {follower.communicate()[0][-2000:]}; {journey.log[-2000:]}"
        )
    journey.exit_status = follower.returncode
    journey.wait("its end", lambda: runs.status(journey.store, RUN).state == "finished")
    return journey


def test_a_run_that_lost_its_laptop_hosts_and_head_ends_with_the_right_model(journey, lab):
    (version,) = lab.services.versions("acme-dots", RUN)
    assert version["status"] == "READY"
    assert runs.status(journey.store, RUN).model == f"acme-dots@{version['version']}"
    assert lab.services.metric(RUN, "loss")  # one run of that name
    assert not journey.store.exists(f"submissions/{RUN}/job.json")


def test_who_looks_at_a_job_sees_it_through_the_loss_of_its_head(journey):
    assert journey.exit_status == 0, journey.seen
    assert "the run journey goes on from its newest checkpoint" in journey.seen
    assert journey.seen.rstrip().splitlines()[-1].startswith("model acme-dots@")


def test_the_same_id_finds_the_job_that_was_started_again(journey):
    assert journey.again[0] == 0, journey.again[1]


def test_a_stopped_worker_is_found_and_replaced(journey):
    assert journey.endings()[0] == ("worker hung", 3)
    assert journey.found_s < 40  # it counts as hung after 15


def test_a_run_goes_on_without_a_host_that_is_cut_off_and_takes_it_back(journey):
    assert ("resized", 2) in journey.endings()
    assert ("preempted", 3) in journey.endings()
    assert journey.went_on_s < 60


def test_a_run_saves_at_once_when_a_host_is_about_to_go_and_goes_on_without_it(journey):
    history = runs.history(journey.store, RUN)
    (number,) = [index for index, attempt in enumerate(history) if attempt.ending == "preempted"]
    assert history[number + 1].from_step == history[number].step
    assert history[number + 1].workers == 2


def test_losses_and_rows_are_those_of_an_unbroken_run(journey, by_ray, lab):
    status, output = by_ray("unbroken", "checkpoint.every=100")
    assert status == 0, output
    losses, sums = (lab.services.metric(RUN, name) for name in ("loss", "sum"))
    whole, whole_sums = (lab.services.metric("unbroken", name) for name in ("loss", "sum"))
    assert sorted(losses) == sorted(whole) == list(range(1, max(whole) + 1))
    for step, found in losses.items():  # more than one where a step was done again
        assert found == pytest.approx(whole[step] * len(found), rel=1e-4)
        # A mean over the workers: the sum over all rows is the same, whatever their number.
        for each in sums[step]:
            totals = [each * workers for workers in (1, 2, 3)]
            assert any(total == pytest.approx(3 * whole_sums[step][0], rel=1e-5) for total in totals)


def test_the_laptop_serves_what_it_trained_and_generates_with_a_key(journey, lab, key):
    version = lab.services.versions("acme-dots", RUN)[0]["version"]
    server = lab.laptop.popen(
        "genloom", "submit", "--id", "endpoint", "--follow", "--",
        "serve", f"acme-dots@{version}", "--host", "0.0.0.0", "--port", "8000",
    )  # fmt: skip
    said = ""
    while "Ctrl-C stops it" not in said:
        line = server.stdout.readline()
        assert line, said
        said += line
    asks = (
        "import sys, genloom; url, key = sys.stdin.read().split(); "
        "print(genloom.connect(url, key=key or None).models['acme-dots'].generate(seed=1)[0].array.shape)"
    )
    url = f"http://{lab.cluster[0].address}:8000"
    assert lab.laptop("python", "-c", asks, given=f"{url} {key}")[1] == "(8, 8, 1)\n"
    status, output = lab.laptop("python", "-c", asks, given=f"{url} wrong")
    assert (status, "401" in output or "key" in output) == (1, True), output
    assert lab.laptop("genloom", "jobs", "stop", "endpoint")[0] == 0
    server.communicate()
