"""Runs that meet faults, on a real cluster: killed, hung, stopped, not a number; and two writers of one run."""

import signal
import threading
import time

import faults
import pytest
from faults import Fault, trained
from ranks import on_ranks
from training import reported

from genloom.errors import RequestError, TrainingError
from genloom_platform.config import read_values, resolve
from genloom_platform.train import checkpoint, launch, lock, runs

STEPS = 240
"""Long after the last fault, of which this process hears late where the machine is busy."""

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(("generator", "stage", "moments"), [
    ("example-struck", 3, ["saving", "now"]),
    pytest.param("example-struck-pair", 2, ["backward", "collective"], marks=pytest.mark.chaos),
])  # fmt: skip
def test_killed_and_stopped_workers_leave_no_trace_in_losses_and_rows(
    digits_store, tmp_path, generator, stage, moments
):
    config = faults.a_run(digits_store, generator, stage, tmp_path, steps=STEPS)
    whole = on_ranks(2, reported, digits_store.url, f"unbroken-{generator}", config)[0]
    met = [
        Fault(30, moments[0], rank=1),
        Fault(70, moments[1], kind=signal.SIGSTOP if moments[1] == "now" else signal.SIGKILL),
    ]
    seen, attempts, events = trained(digits_store, generator, stage, tmp_path, met, steps=STEPS)
    assert seen == whole
    assert sorted(seen) == list(range(1, STEPS + 1))
    second = "worker hung" if moments[1] == "now" else "worker died"
    assert [attempt.ending for attempt in attempts] == ["worker died", second, "finished"]
    assert all(attempt.from_step % 20 == 0 for attempt in attempts)
    assert "retry 1 of 3" in events[0]


@pytest.mark.chaos
def test_a_run_survives_the_actors_that_serve_it(digits_store, tmp_path):
    met = [Fault(30, "Inbox"), Fault(60, "Controller")]
    seen, attempts, events = trained(digits_store, "example-struck", 1, tmp_path, met, steps=80)
    assert sorted(seen)[-1] == 80
    assert len(seen) >= 70  # reports that lay in the inbox died with it
    assert [attempt.ending for attempt in attempts] == ["worker died", "worker died", "finished"]
    died = [event for event in events if "died" in event]
    assert died == ["the run's controller or inbox died; retry 1 of 3"] * 2


def a_run(store, generator, *words):
    return resolve(
        read_values(
            generator, ["steps=2000", "data=digits", "global_batch=24", "evaluate=false", *words]
        ),
        store,
    )


def test_a_loss_that_is_not_a_number_ends_a_run_or_is_passed_over_after_going_back(digits_store):
    words = ["steps=300", "checkpoint.every=10"]
    with pytest.raises(TrainingError, match=r"was nan at step \d+; lower the learning rate") as error:
        launch.train(digits_store, a_run(digits_store, "example-breaking", *words))
    failed, status = runs.list_runs(digits_store)[0]
    assert status.message == str(error.value)
    bad = runs.history(digits_store, failed.name)[-1].bad_step
    before = (bad - 1) // 10 * 10
    assert checkpoint.find(digits_store, failed.name).step == before

    events = []
    words = [f"steps={bad + 1}", "checkpoint.every=10", "recovery.nan=rollback"]
    done = launch.train(
        digits_store, a_run(digits_store, "example-breaking", *words), on_event=events.append
    )
    assert done.status.state == "finished"
    attempts = runs.history(digits_store, done.run.name)
    assert [(a.ending, a.bad_step, a.from_step) for a in attempts] == [
        ("not a number", bad, 0), ("finished", None, before),
    ]  # fmt: skip
    assert f"the loss 'loss' was nan at step {bad}" in events[0]


def test_a_run_is_stopped_from_outside_and_written_by_one_process_at_a_time(
    digits_store, genloom_command
):
    refused, names, stopped, followed = [], [], [], []

    def interfere():
        try:
            launch.resume(digits_store, names[0])
        except RequestError as error:
            refused.append(str(error))
        followed.append(genloom_command("runs", "logs", names[0], "--follow", store=digits_store.url))

    def stop():
        stopped.append(genloom_command("runs", "stop", names[0], store=digits_store.url))

    def on_report(report):
        if report.step >= 20 and not threads:
            threads.extend([threading.Thread(target=interfere), threading.Thread(target=stop)])
            for thread in threads:
                thread.start()

    threads = []
    done = launch.train(
        digits_store, a_run(digits_store, "example-watched", "steps=1000000"),
        on_start=lambda run, step: names.append(run.name), on_report=on_report,
    )  # fmt: skip
    for thread in threads:
        thread.join()
    assert done.status.state == "stopped"
    assert "is being written by process" in refused[0]
    assert stopped[0].returncode == 0, stopped[0].stderr
    assert f"stopped at step {done.status.step:,}" in stopped[0].stdout
    assert checkpoint.find(digits_store, names[0]).step == done.status.step
    again = genloom_command("runs", "stop", names[0], store=digits_store.url)
    assert again.returncode == 2
    assert "no process is writing" in again.stderr
    shown = genloom_command("runs", "show", names[0], store=digits_store.url).stdout
    assert "stopped on request" in shown
    logs = genloom_command("runs", "logs", names[0], store=digits_store.url)
    assert "rank 0 on" in logs.stdout
    assert followed[0].stdout == logs.stdout  # it ended with the run


def test_a_lock_lapses_when_its_holder_is_gone(tmp_path, monkeypatch):
    from genloom_platform.store import Store

    store = Store(tmp_path.as_uri())
    with lock.Lock(store, "run"):
        found = lock.holder(store, "run")
        with pytest.raises(RequestError, match=f"process {found.process} on {found.host}"):
            lock.Lock(store, "run").__enter__()
    assert lock.holder(store, "run") is None
    for update in ({"process": 1 << 22}, {"host": "elsewhere", "at": time.time() - 61}):
        gone = found.model_copy(update=update)
        store.write("runs/run/lock.json", gone.model_dump_json().encode())
        assert lock.holder(store, "run") is None
    alive = found.model_copy(update={"host": "elsewhere", "at": time.time()})
    store.write("runs/run/lock.json", alive.model_dump_json().encode())
    assert lock.holder(store, "run") == alive
