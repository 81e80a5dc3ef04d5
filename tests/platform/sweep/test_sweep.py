"""Sweeps on the session's Ray cluster: judged, pruned, retried, changed on their way, registered, tracked."""

import os
import re
import signal

import pytest

import genloom
from genloom.errors import RequestError, UnknownName
from genloom_platform.models.registry import Registry
from genloom_platform.session import SweepHandle
from genloom_platform.store import Store
from genloom_platform.sweep import launch, records, report
from genloom_platform.train import checkpoint, runs

pytestmark = pytest.mark.usefixtures("ray_cluster")
RUN = {
    "generator": {"name": "example-moody"},
    "data": "digits",
    "steps": 40,
    "global_batch": 32,
    "log_every": 5,
    "evaluate": False,
}
SWEEP = {
    "run": RUN,
    "space": {"optimizer.lr": {"log_range": [1e-4, 1e-1]}},
    "metric": "loss",
    "mode": "min",
    "trials": 4,
    "every": 10,
}


def swept(store, name, **changes):
    """Run a sweep; how it ended, and what was said."""
    watched = changes.pop("on_change", lambda watch: None)
    events = []
    done = launch.sweep(store, SWEEP | changes, name, on_change=watched, on_event=events.append)
    return done, events


class Storage:
    """Counts the checkpoints that lie in the store beyond those of live trials and of the best."""

    def __init__(self, store, name, best):
        self._store, self._name, self._best = store, name, best
        self.most, self.beyond = 0, 0

    def __call__(self, watch):
        live = sum(not trial.ended for trial in watch.trials.values())
        found = [len(checkpoint.committed(self._store, run)) for run in list(watch.trials)]
        self.most = max(self.most, sum(found))
        self.beyond = max(self.beyond, sum(found) - live - self._best)


class Killer:
    """Kills the process of a trial once, when a trial has come to its second look."""

    def __init__(self, store):
        self._store, self.killed = store, 0

    def __call__(self, watch):
        for trial in watch.trials.values():
            if not self.killed and trial.step >= 20 and not trial.ended:
                log = self._store.read(f"runs/{trial.run}/logs/rank-0.log").decode()
                self.killed = int(re.findall(r"rank 0 on .* process (\d+)", log)[-1])
                os.kill(self.killed, signal.SIGKILL)


@pytest.fixture(scope="module")
def mixed(digits_store):
    """Ten trials by ASHA, the training of one of which fails; the process of another is killed."""
    storage, killer = Storage(digits_store, "mixed", 2), Killer(digits_store)

    def on_change(watch):
        storage(watch)
        killer(watch)

    done, events = swept(
        digits_store, "mixed", trials=None, best=2, search="grid",
        scheduler={"name": "asha", "factor": 2}, on_change=on_change,
        run=RUN | {"generator": {"name": "example-moody", "pace_s": 0.01}},
        space={
            "optimizer.lr": {"choice": [3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5]},
            "mood": {"choice": ["calm", "angry"], "when": {"optimizer.lr": 1e-3}},
            "width": {"choice": [16, 32], "when": {"optimizer.lr": [3e-2, 1e-2]}},
        },
    )  # fmt: skip
    return done, events, storage, killer


def test_trials_that_fail_are_tried_again_and_told_and_harm_no_other(mixed):
    done, events, _, _ = mixed
    (failed,) = [trial for trial in done.trials if trial.state == "failed"]
    assert failed.params["mood"] == "angry"
    assert failed.failures == 1
    assert "the sixth step is too much" in failed.message
    assert any(f"trial {failed.number} failed: ValueError: the sixth" in event for event in events)
    assert done.status.state == "finished"
    assert len(done.trials) == 10


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(mixed, digits_store):
    done, events, _, killer = mixed
    assert killer.killed
    (hit,) = [t for t in done.trials if t.failures and t.state != "failed"]
    assert any(event.startswith(f"trial {hit.number} is tried again: ") for event in events)
    starts = digits_store.read(f"runs/{hit.run}/logs/rank-0.log").decode().count("rank 0 on")
    assert starts == 2 + (hit.model is not None)  # its export starts too
    assert [look.step for look in hit.looks] == sorted({look.step for look in hit.looks})


def test_asha_stops_most_trials_early(mixed):
    done = mixed[0]
    states = [trial.state for trial in done.trials]
    assert states.count("stopped") >= 2
    assert (
        states.count("finished") >= 1
    )  # which comes first is chance, and so is how many reach the end
    assert all(trial.step < 40 for trial in done.trials if trial.state == "stopped")


def test_the_best_are_registered_and_no_other_keeps_its_checkpoint(mixed, digits_store):
    done, events, storage, _ = mixed
    finished = sum(trial.state == "finished" for trial in done.trials)
    assert [trial.model for trial in done.best] == list(done.status.best)
    assert len(done.best) == min(2, finished)
    assert any("trained in full, so no more" in event for event in events) == (finished < 2)
    assert done.best[0].metrics["loss"] <= done.best[-1].metrics["loss"]
    for trial in done.best:
        version = Registry(digits_store).find(trial.model)
        assert version.release.run == trial.run
        assert version.release.generator.get("width", 32) == trial.params.get("width", 32)
        run = runs.find(digits_store, trial.run)
        assert run.sweep == "mixed"
        assert runs.status(digits_store, trial.run).model == trial.model
    kept = {trial.run for trial in done.trials if checkpoint.committed(digits_store, trial.run)}
    assert kept == {trial.run for trial in done.best}
    # Each live trial has one; for a moment it has the next one too, before the last is deleted.
    assert storage.beyond <= 2
    assert storage.most <= 6


def test_mlflow_has_the_trials_below_the_sweep(mixed, digits_store):
    done = mixed[0]
    client = Registry(digits_store).client
    parent = client.get_run(done.sweep.tracking_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best/loss"] == pytest.approx(done.best[0].metrics["loss"])
    assert parent.data.tags["best trial"] == done.best[0].run
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{done.sweep.tracking_id}'"
    )
    assert sorted(child.info.run_name for child in children) == [trial.run for trial in done.trials]
    best = runs.find(digits_store, done.best[0].run)
    history = client.get_metric_history(best.tracking_id, "loss")
    assert {entry.step for entry in history} == set(range(1, 41))


def test_the_report_is_one_page_with_every_trial(mixed, digits_store):
    done = mixed[0]
    page = digits_store.read("sweeps/mixed/report.html").decode()
    assert report.PLACE not in page
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)
    for trial in done.trials:
        assert f'"run": "{trial.run}"' in page


def test_a_finished_sweep_and_another_of_its_name_are_refused(mixed, digits_store):
    same = {
        key: value for key, value in mixed[0].sweep.config.model_dump().items() if value is not None
    }
    with pytest.raises(RequestError, match=r"'mixed' is finished .* another --name"):
        launch.sweep(digits_store, same, "mixed")
    with pytest.raises(RequestError, match="'mixed' with another trials"):
        launch.sweep(digits_store, same | {"trials": 12}, "mixed")
    with pytest.raises(UnknownName, match="did you mean 'mixed'"):
        records.find(digits_store, "mixde")


def test_population_based_training_really_changes_values_on_the_way(digits_store):
    done, events = swept(
        digits_store, "population",
        scheduler={"name": "pbt", "perturb": ["mark", "optimizer.lr"], "quantile": 0.5},
        space={"optimizer.lr": {"log_range": [1e-4, 1e-1]}, "mark": {"range": [1, 2]}},
    )  # fmt: skip
    changed = [trial for trial in done.trials if trial.changes]
    assert changed
    for trial in done.trials:
        assert trial.state == "finished"
        for look in trial.looks:
            # The values in force were trained with, and the weights have seen every step once: also those
            # before a change, which another trial did.
            in_force = [trial.first_params, *(c.params for c in trial.changes if c.step < look.step)][
                -1
            ]
            assert look.metrics["mark"] == pytest.approx(in_force["mark"])
            assert look.metrics["calls"] == look.step
        assert trial.looks[-1].step == 40
        assert trial.params == [trial.first_params, *(c.params for c in trial.changes)][-1]
    for trial in changed:
        change = trial.changes[0]
        other = next(each for each in done.trials if each.run == change.origin)
        assert change.params != trial.first_params
        assert other.run != trial.run
        assert 1 <= change.params["mark"] <= 2
    assert any("goes on from population-" in event for event in events)


def test_hyperband_pauses_trials_and_goes_on_with_the_better_ones_in_s3(s3, tmp_path, monkeypatch):
    from genloom_platform.data.imports import import_dataset

    monkeypatch.setenv("GENLOOM_TRACKING", f"sqlite:///{tmp_path}/mlflow.db")
    store = Store(f"{s3}/sweeps-test")
    import_dataset(store, "digits", None, None, {})
    done, _ = swept(store, "halved", scheduler="hyperband", trials=5)
    finished = [trial for trial in done.trials if trial.state == "finished"]
    assert 1 <= len(finished) < 5
    for trial in done.trials:
        assert [look.metrics["calls"] for look in trial.looks] == [look.step for look in trial.looks]
    assert done.best[0].model == "example-moody@1"
    assert store.names("sweeps/halved") == ["report.html", "status.json", "sweep.json", "trials"]


def test_a_metric_that_no_trial_reports_is_told_with_those_that_are(digits_store):
    session = genloom.connect(digits_store.url)
    with pytest.raises(RequestError, match=r"no trial reports 'lsos'; .* reported: calls, loss, mark"):
        session.sweep(SWEEP, name="misjudged", metric="lsos", trials=3)
    assert records.status(digits_store, "misjudged").state == "failed"


def test_trials_of_several_workers_are_recovered_and_stopped_and_leave_nothing_reserved(digits_store):
    import ray

    def all_is_free():
        return ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]

    wait_until(all_is_free)
    killer = Killer(digits_store)
    found, events = swept(
        digits_store, "groups", search="grid", scheduler="asha", trials=2, on_change=killer,
        space={"optimizer.lr": {"choice": [1e-2, 1e-5]}},
        run=RUN | {"scale": {"workers": 2}, "generator": {"name": "example-moody", "pace_s": 0.05}},
    )  # fmt: skip
    done = SweepHandle(digits_store, found)
    assert [trial.state for trial in done.trials] == ["finished", "stopped"]
    assert [model.name for model in done.models] == [done.trials[0].model]
    assert done.trials[0].metrics["calls"] == 40
    assert done.report.endswith("sweeps/groups/report.html")
    assert killer.killed
    hit = found.trials[0]
    assert hit.failures == 0  # the trial's own course goes on: nothing for the sweep to try again
    endings = [each.ending for each in runs.history(digits_store, hit.run)]
    assert endings[:2] == ["worker died", "finished"]
    assert [look.step for look in hit.looks] == [10, 20, 30, 40]
    assert not any("is tried again" in event for event in events)
    wait_until(all_is_free)


def wait_until(met, timeout_s=20):
    import time

    until = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < until
        time.sleep(0.2)
