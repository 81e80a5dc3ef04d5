"""The record of a run: who may write it, and what it says while the run goes on. Nothing here trains."""

import datetime

import pytest

from genloom.errors import RequestError, TrainingError
from genloom_platform.cli import runs as cli
from genloom_platform.config import RunConfig
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, launch, lock, runs
from genloom_platform.train.checkpoint import Checkpoint
from genloom_platform.train.course import Course
from genloom_platform.train.progress import Report
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
    monkeypatch.setattr(
        launch, "_connect", lambda config, patience_s=None: runs.set_status(store, "one", done)
    )
    with pytest.raises(RequestError, match="the run one is finished"):
        launch.resume(store, "one")
    found = runs.status(store, "one")
    assert (found.state, found.step, found.model) == ("finished", 2000, "example@1")
    assert lock.holder(store, "one") is None


def test_a_name_that_another_process_takes_while_this_one_connects_is_refused(
    digits_store, monkeypatch
):
    from genloom_platform.config import read_values, resolve

    config = resolve(read_values("image-classifier", ["steps=10", "data=digits"]), digits_store)
    monkeypatch.setattr(
        launch, "_connect", lambda config, patience_s=None: a_run(digits_store, "contested")
    )
    with pytest.raises(RequestError, match="there is a run 'contested' already"):
        launch.train(digits_store, config, name="contested")
    assert runs.find(digits_store, "contested").package == "none"


@pytest.mark.parametrize("outcome", [False, TrainingError("the workers died")])
def test_no_status_is_written_over_that_of_a_run_that_another_process_has_finished(
    store, monkeypatch, outcome
):
    run = a_run(store)
    monkeypatch.setattr(launch, "_connect", lambda config, patience_s=None: None)
    monkeypatch.setattr(launch, "Tracking", Untracked)

    def train(course):
        runs.set_status(store, run.name, Status(state="finished", step=2000, model="example@1"))
        if outcome:
            raise outcome
        return outcome

    monkeypatch.setattr(Course, "train", train)
    with pytest.raises(TrainingError, match=r"another process has taken|workers died"):
        launch.resume(store, "one")
    assert runs.status(store, "one").model == "example@1"


def save(store, run, step, **metrics):
    """A committed checkpoint, without files."""
    saved = Checkpoint(
        step=step, workers=1, zero_stage=0, files={}, metrics=metrics, created_at=checkpoint.now()
    )
    store.write(
        f"{checkpoint.place(run, step)}/{checkpoint.MANIFEST}",
        saved.signed().model_dump_json().encode(),
    )


def listed(capsys):
    cli.list_()
    return capsys.readouterr().out


def shown(capsys, name):
    cli.show(name)
    return capsys.readouterr().out


def test_a_run_whose_process_is_gone_is_cut_off_and_what_goes_on_with_it_is_said(
    store, monkeypatch, capsys
):
    monkeypatch.setenv("GENLOOM_STORE", store.url)
    run = a_run(store)
    with lock.Lock(store, run.name):
        assert runs.standing(store, run).state == "running"
        assert " running " in listed(capsys)
    assert runs.standing(store, run).state == "cut off"
    assert " cut off " in listed(capsys)
    assert "genloom train --resume one" in shown(capsys, "one")
    with pytest.raises(RequestError, match="is cut off; go on with: genloom train --resume one"):
        cli.stop("one")
    a_run(store, "trial", sweep="rates")
    runs.set_status(store, "trial", Status(state="stopped", step=20))
    with pytest.raises(RequestError, match=r"it is stopped$"):
        cli.stop("trial")


def test_a_trial_is_running_as_long_as_its_sweep_is(store):
    run = a_run(store, sweep="rates")
    with lock.Lock(store, "rates", "sweep"):
        assert runs.standing(store, run).state == "running"
    assert runs.standing(store, run).state == "cut off"
    assert "rates" in runs.go_on_with(run)


def test_a_run_that_ends_while_it_is_looked_at_is_never_cut_off(store, monkeypatch):
    run = a_run(store)

    def ends(store, run):
        runs.set_status(store, run.name, Status(state="finished", step=2000))
        return False

    monkeypatch.setattr(runs, "is_written", ends)
    assert runs.standing(store, run).state == "finished"


def test_a_run_that_trains_is_shown_at_its_newest_checkpoint(store, monkeypatch, capsys):
    monkeypatch.setenv("GENLOOM_STORE", store.url)
    run = a_run(store)
    save(store, "one", 200, loss=0.5)
    save(store, "one", 400, loss=0.25)
    with lock.Lock(store, "one"):
        assert "400/2,000" in listed(capsys)
        text = shown(capsys, "one")
    assert "400 of 2,000, by its newest checkpoint" in text
    assert "loss 0.25" in text
    store.write(f"{checkpoint.place('one', 400)}/{checkpoint.MANIFEST}", b"{}")
    assert runs.standing(store, run).step == 200


def test_a_run_that_is_stopped_before_its_workers_report_stands_at_its_checkpoint(store, monkeypatch):
    a_run(store)
    save(store, "one", 400, loss=0.25)
    monkeypatch.setattr(launch, "_connect", lambda config, patience_s=None: None)
    monkeypatch.setattr(launch, "Tracking", Untracked)

    def train(course):
        raise KeyboardInterrupt

    monkeypatch.setattr(Course, "train", train)
    with pytest.raises(KeyboardInterrupt):
        launch.resume(store, "one")
    found = runs.status(store, "one")
    assert (found.state, found.step, found.metrics) == ("stopped", 400, {"loss": 0.25})


class Untracked:
    """No MLflow."""

    def __init__(self, registry, run_id):
        pass

    def end(self, state):
        pass


@pytest.mark.parametrize("every", [5, 100])
def test_a_best_checkpoint_by_a_metric_that_nobody_reports_is_told_once_at_the_first_checkpoint(
    store, every
):
    run = a_run(store, steps=10, checkpoint={"best": "foo", "every": every})
    told = []
    course = Course(store, run, None, lambda: False, lambda report: None, told.append)
    for step in (1, 5, 10):
        course._seen(Report(step, [{"loss": 0.5, "accuracy": 0.9}], 1.0, {}))
        assert len(told) == (step >= min(every, 10))
    assert told == [
        "no checkpoint stays as the best: the run reports no 'foo'; give checkpoint.best one of those that are "
        "reported: accuracy, loss"
    ]


def test_a_best_checkpoint_by_a_metric_that_is_reported_is_no_matter(store):
    run = a_run(store, steps=10, checkpoint={"best": "loss", "every": 5})
    told = []
    course = Course(store, run, None, lambda: False, lambda report: None, told.append)
    course._seen(Report(5, [{"loss": 0.5}], 1.0, {}))
    assert told == []
