"""The record of a run: who may write it, and what it says while the run goes on. Nothing here trains."""

import datetime

import pytest

from genloom.errors import RequestError, TrainingError
from genloom_platform.config import RunConfig
from genloom_platform.store import Store
from genloom_platform.train import launch, lock, runs
from genloom_platform.train.course import Course
from genloom_platform.train.runs import Run, Status


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path.as_uri())


def a_run(store, name="one", steps=2000, sweep=None, **settings):
    """A run that has been started."""
    config = RunConfig(generator={"name": "example"}, data="digits", steps=steps, **settings)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    run = Run(
        name=name,
        config=config,
        dataset="digits@0",
        package="none",
        package_version="0",
        tracking_id="0",
        created_at=now,
        sweep=sweep,
    )
    runs.create(store, run)
    return run


def test_a_run_that_finishes_while_another_process_connects_is_not_begun_again(store, monkeypatch):
    a_run(store)
    done = Status(state="finished", step=2000, model="example@1")
    monkeypatch.setattr(launch, "_connect", lambda config: runs.set_status(store, "one", done))
    with pytest.raises(RequestError, match="the run one is finished"):
        launch.resume(store, "one")
    found = runs.status(store, "one")
    assert (found.state, found.step, found.model) == ("finished", 2000, "example@1")
    assert lock.holder(store, "one") is None


def test_a_name_that_another_process_takes_while_this_one_connects_is_refused(digits_store, monkeypatch):
    from genloom_platform.config import read_values, resolve

    config = resolve(read_values("image-classifier", ["steps=10", "data=digits"]), digits_store)
    monkeypatch.setattr(launch, "_connect", lambda config: a_run(digits_store, "contested"))
    with pytest.raises(RequestError, match="there is a run 'contested' already"):
        launch.train(digits_store, config, name="contested")
    assert runs.find(digits_store, "contested").package == "none"


@pytest.mark.parametrize("outcome", [False, TrainingError("the workers died")])
def test_no_status_is_written_over_that_of_a_run_that_another_process_has_finished(
    store, monkeypatch, outcome
):
    run = a_run(store)
    monkeypatch.setattr(launch, "_connect", lambda config: None)
    monkeypatch.setattr(launch, "Tracking", lambda registry, run_id: None)

    def train(course):
        runs.set_status(store, run.name, Status(state="finished", step=2000, model="example@1"))
        if outcome:
            raise outcome
        return outcome

    monkeypatch.setattr(Course, "train", train)
    with pytest.raises(TrainingError, match="another process has taken|workers died"):
        launch.resume(store, "one")
    assert runs.status(store, "one").model == "example@1"
