"""A run on the session's Ray cluster: trained, stopped, resumed, registered; and what is refused before."""

import os
import signal
import threading

import pytest

import genloom
from genloom.errors import (
    DataError,
    InvalidConfig,
    RequestError,
    TrainingError,
    UnknownName,
    WrongDataset,
)
from genloom_platform.config import read_values, resolve
from genloom_platform.data import manifest as manifests
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store
from genloom_platform.train import launch, logs, runs

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = ["global_batch=64", "log_every=5", "checkpoint.every=100", "scale.workers=2", "seed=3"]


def a_run(store, steps, *more):
    return resolve(
        read_values("image-classifier", [f"steps={steps}", "data=digits", *SETTINGS, *more]), store
    )


@pytest.fixture(scope="module")
def unbroken(digits_store):
    """A run of 300 steps: (what it ended with, the losses by step)."""
    seen = {}
    trained = launch.train(digits_store, a_run(digits_store, 300), on_report=keep(seen))
    return trained, seen


def keep(seen, stop_at=None):
    """Collect losses; press Ctrl-C, once, soon after a step."""
    pressed = []

    def on_report(report):
        for index, metrics in enumerate(report.metrics):
            seen[report.step - len(report.metrics) + 1 + index] = metrics
        if stop_at and report.step >= stop_at and not pressed:
            pressed.append(report.step)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    return on_report


def test_a_run_ends_as_a_registered_model_with_lineage(digits_store, unbroken):
    trained, seen = unbroken
    assert list(seen) == list(range(1, 301))
    assert trained.status.state == "finished"
    version = Registry(digits_store).find(trained.model.full_name)
    assert version.release.run == trained.run.name
    assert version.release.dataset == manifests.load(digits_store, "digits").full_name
    assert version.release.package == "genloom-image"
    assert version.release.generator["name"] == "image-classifier"
    assert 0 < version.metrics["accuracy"] <= 1
    assert not digits_store.names("ray")


def test_the_log_of_the_first_worker_says_once_where_it_runs_and_then_how_it_goes(
    digits_store, unbroken
):
    trained, seen = unbroken
    lines = "".join(logs.read(digits_store, trained.run.name, 0)).splitlines()
    assert sum(line.startswith("rank 0 on ") for line in lines) == 1
    told = [line for line in lines if line.startswith("step ")]
    assert told[-1].startswith(f"step 300/300  loss {seen[300]['loss']:.4g}  ")
    assert told[-1].endswith(" rows/s")
    assert len(told) == len(set(told)) >= 300 / 10
    other = "".join(logs.read(digits_store, trained.run.name, 1))
    assert "rank 1 on " in other
    assert "\nstep " not in other


def test_the_runs_metrics_are_in_mlflow(digits_store, unbroken):
    trained, seen = unbroken
    history = Registry(digits_store).client.get_metric_history(trained.run.tracking_id, "loss")
    assert {entry.step: entry.value for entry in history} == {
        step: pytest.approx(metrics["loss"]) for step, metrics in seen.items()
    }


def test_a_run_stopped_half_way_and_resumed_has_the_losses_of_an_unbroken_one(digits_store, unbroken):
    _, whole = unbroken
    first, rest = {}, {}
    stopped = launch.train(digits_store, a_run(digits_store, 300), on_report=keep(first, stop_at=10))
    assert stopped.status.state == "stopped"
    assert stopped.model is None
    starts = []
    resumed = launch.resume(
        digits_store,
        stopped.run.name,
        on_report=keep(rest),
        on_start=lambda run, step: starts.append(step),
    )
    assert 10 <= starts[0] < 300
    assert min(rest) == starts[0] + 1
    assert first | rest == whole
    assert resumed.status.state == "finished"
    with pytest.raises(RequestError, match="is finished"):
        launch.resume(digits_store, stopped.run.name)


def test_generating_is_the_same_in_another_process_of_the_model(digits_store, unbroken):
    model = genloom.connect(digits_store.url).models[unbroken[0].model.full_name]
    assert isinstance(model.loaded.trainable, genloom.Predictor)
    with pytest.raises(genloom.PromptError, match="is a predictor"):
        model.generate(count=1)


def test_an_unknown_split_names_the_nearest(digits_store, unbroken):
    session = genloom.connect(digits_store.url)
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        session.evaluate(unbroken[0].model.full_name, split="trian")
    assert session.evaluate(unbroken[0].model.full_name) == unbroken[0].model.metrics


def test_a_run_in_s3_is_like_any_other(s3, tmp_path, monkeypatch):
    from genloom_platform.data.imports import import_dataset

    monkeypatch.setenv("GENLOOM_TRACKING", f"sqlite:///{tmp_path}/mlflow.db")
    store = Store(f"{s3}/runs-test")
    import_dataset(store, "digits", None, None, {})
    trained = launch.train(store, a_run(store, 10))
    assert trained.model.metrics["accuracy"] > 0
    assert store.names(f"runs/{trained.run.name}") == [
        "checkpoints", "history.json", "logs", "run.json", "status.json",
    ]  # fmt: skip


def test_a_corrupt_shard_stops_a_run_before_it_starts(tmp_path):
    from genloom_platform.data.imports import import_dataset

    store = Store(tmp_path.as_uri())
    manifest = import_dataset(store, "digits", None, None, {})
    path = f"datasets/digits/{manifest.shards_of('train')[0].path}"
    store.write(path, store.read(path)[:-1] + b"?")
    with pytest.raises(DataError, match="is corrupt"):
        launch.train(store, a_run(store, 10))
    assert store.names("runs") == []


def test_more_workers_than_the_cluster_has_are_refused_before_anything_is_written(digits_store):
    before = digits_store.names("runs")
    with pytest.raises(RequestError, match=r"asks for \d+ CPUs .* lower scale.workers"):
        launch.train(digits_store, a_run(digits_store, 10, "scale.workers=64"))
    assert digits_store.names("runs") == before


def test_a_name_is_given_once(digits_store, unbroken):
    with pytest.raises(RequestError, match="there is a run"):
        launch.train(digits_store, a_run(digits_store, 10), name=unbroken[0].run.name)


def test_a_failing_plugin_fails_its_run_and_says_where_to_read(digits_store, tmp_path, monkeypatch):
    monkeypatch.setattr(
        genloom.registry, "create", lambda name, config: __import__("examples").Failing()
    )
    # The workers look the plugin up again, in their own process, and find none of this name.
    config = a_run(digits_store, 300).model_copy(
        update={"generator": {"name": "image-classifier", "width": -1}}
    )
    with pytest.raises((TrainingError, InvalidConfig)) as error:
        launch.train(digits_store, config)
    failed = runs.list_runs(digits_store)[0]
    assert failed[1].state == "failed"
    assert failed[1].message == str(error.value)


def test_unknown_things_are_told_before_anything_starts(digits_store):
    for words, kind, message in [
        (["data=digit"], UnknownName, "did you mean 'digits'"),
        (["data=fox"], WrongDataset, "learns from a column 'image'"),
        (["data=digits@abc"], UnknownName, "version of 'digits' named 'abc'"),
    ]:
        with pytest.raises(kind, match=message):
            resolve(read_values("image-classifier", words), digits_store)
