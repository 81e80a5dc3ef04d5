"""A sweep whose driver is killed: the same command goes on with it, and repeats no trial that had ended."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from genloom_platform.models.registry import Registry
from genloom_platform.store import Store
from genloom_platform.sweep import records

pytestmark = pytest.mark.e2e
TRIALS = 4
SWEEP = {
    "run": {
        "generator": {"name": "example-moody", "pace_s": 0.04},
        "data": "digits", "steps": 40, "global_batch": 32, "log_every": 5, "evaluate": False,
    },
    "space": {"optimizer.lr": {"log_range": [1e-4, 1e-1]}},
    "metric": "loss", "mode": "min", "trials": TRIALS, "every": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A sweep ended by Ctrl-C, then killed, then finished.

    The store; what was recorded when it was killed; what the last command said, and the first; how often a
    process had begun each trial that had ended by then.
    """
    folder = tmp_path_factory.mktemp("interrupted")
    store = Store((folder / "store").as_uri())
    file = folder / "rates.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    environment = {**os.environ, "GENLOOM_STORE": store.url}
    command = [sys.executable, "-m", "genloom_platform.cli", "sweep", str(file)]

    def run(*words):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    run(*command[:3], "data", "import", "digits")
    polite = ended_by(signal.SIGINT, 0, store, command, environment)
    ended_by(signal.SIGKILL, 1, store, command, environment)
    ended = {trial.run: trial for trial in records.trials(store, "rates") if trial.ended}
    begun = {trial.run: trial for trial in records.trials(store, "rates") if not trial.ended}
    before = {name: starts(store, name) for name in ended}
    second = run(*command)
    return store, ended, begun, second.stdout, polite, before


def starts(store, run):
    """How often a process has begun to train a run, or to export it."""
    return store.read(f"runs/{run}/logs/rank-0.log").decode().count("rank 0 on")


def ended_by(kind, after, store, command, environment):
    """Start the sweep and end it by a signal when so many trials have ended and another runs; what it said."""
    driver = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 120
    while True:
        trials = records.trials(store, "rates")
        running = [trial for trial in trials if not trial.ended and trial.step]
        if sum(trial.ended for trial in trials) >= after and running:
            break
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    driver.send_signal(kind)
    return driver.communicate(timeout=60)[0]


def test_ctrl_c_ends_a_sweep_politely(interrupted):
    said = interrupted[-2].splitlines()
    assert said[-1] == "stopped; the same command goes on with it"
    assert any("ends when its trials have come to a look" in each for each in said)
    assert not any("WARNING" in each or "Traceback" in each for each in said)


def test_no_finished_trial_is_repeated(interrupted):
    store, ended, *_, begun_before = interrupted
    assert ended
    after = {trial.run: trial for trial in records.trials(store, "rates")}
    for run, trial in ended.items():
        assert after[run].model_copy(update={"model": None}) == trial
        assert starts(store, run) <= begun_before[run] + 1  # its export


def test_what_was_cut_off_goes_on_and_the_rest_is_done(interrupted):
    store, _, begun, *_ = interrupted
    after = {trial.run: trial for trial in records.trials(store, "rates")}
    assert len(after) == TRIALS
    assert all(trial.state == "finished" for trial in after.values())
    for run, trial in begun.items():
        kept = after[run].looks[: len(trial.looks)]
        assert [look.metrics for look in kept] == [look.metrics for look in trial.looks]
        assert [look.metrics["calls"] for look in after[run].looks] == list(range(5, 41, 5))


def test_the_sweep_is_one_in_mlflow_and_on_the_screen(interrupted):
    store, ended, _, said, *_ = interrupted
    sweep = records.find(store, "rates")
    client = Registry(store).client
    parent = client.get_run(sweep.tracking_id)
    tag = f"tags.mlflow.parentRunId = '{sweep.tracking_id}'"
    children = client.search_runs([parent.info.experiment_id], tag)
    assert len(children) == TRIALS
    assert {child.info.status for child in children} == {"FINISHED"}
    assert (
        f"{TRIALS} trials of example-moody on digits, 40 steps (random), {len(ended)} of them done before"
        in said
    )
    assert "model example-moody@1 is registered: trial" in said
    assert "report: " in said
    assert len(said.splitlines()) < 20
