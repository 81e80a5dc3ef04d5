"""Workers are killed again and again, at every moment of a step, a save and an upload: nothing of it shows."""

import os
import random
from itertools import pairwise

import pytest
from faults import EVERY, Fault, trained, workers
from faulty_s3 import FaultyS3
from strikes import MOMENTS

from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store

pytestmark = pytest.mark.chaos
KILLS = int(os.environ.get("GENLOOM_CHAOS_KILLS", "20"))


class Uploads(Fault):
    """Kills a worker while a part of a checkpoint is on its way to S3."""

    armed = False

    def watch(self, store, run, step, plan):
        if not self.struck and step >= self.step:
            self.struck = self.armed = True

    def see(self, method, path):
        """Called with every request to S3, before it is passed on."""
        if self.armed and method in ("PUT", "POST") and ".safetensors" in path:
            self.armed = False
            os.kill(workers()[self.rank], self.kind)


@pytest.fixture(scope="session")
def s3(s3):
    """The session's S3 server behind a proxy that tells of every request."""
    watching = []

    def told(method, path, number):
        for fault in watching:
            fault.see(method, path)

    proxy = FaultyS3(os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), told)
    before, os.environ["AWS_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"], proxy.url
    yield s3, watching
    os.environ["AWS_ENDPOINT_URL"] = before
    proxy.close()


def drawn(seed, kinds):
    """One fault after the other, each behind another checkpoint, every moment in turn."""
    chance = random.Random(seed)
    for number in range(KILLS):
        step = (number + 1) * EVERY + chance.randrange(EVERY)
        kind = kinds[number % len(kinds)]
        rank = chance.randrange(2)
        yield Uploads(step, kind, rank) if kind == "uploading" else Fault(step, kind, rank)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("generator", ["example-struck", "example-struck-pair"])
def test_workers_killed_at_any_moment_leave_no_trace(
    s3, ray_cluster, tmp_path, monkeypatch, generator, stage
):
    bucket, watching = s3
    monkeypatch.setenv("GENLOOM_TRACKING", f"sqlite:///{tmp_path}/mlflow.db")
    store = Store(f"{bucket}/{generator}-{stage}")
    import_dataset(store, "digits", None, None, {})
    steps = (KILLS + 2) * EVERY
    whole, once, _ = trained(store, generator, stage, tmp_path, steps=steps)
    assert [attempt.ending for attempt in once] == ["finished"]
    faults = list(drawn(stage, [*MOMENTS, "saving", "uploading"]))
    watching[:] = [fault for fault in faults if isinstance(fault, Uploads)]
    seen, attempts, events = trained(store, generator, stage, tmp_path, faults, steps)
    print(f"\n{generator}, ZeRO {stage}: {', '.join(f'{f.moment} {f.step}' for f in faults)}")
    assert seen == whole
    assert sorted(seen) == list(range(1, steps + 1))
    assert [attempt.ending for attempt in attempts] == ["worker died"] * KILLS + ["finished"]
    lost = [before.step - after.from_step for before, after in pairwise(attempts)]
    assert max(lost) <= 2 * EVERY  # one that was being saved, and the steps since
    assert sum("retry" in event for event in events) == KILLS
