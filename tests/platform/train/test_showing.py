"""What a run shows while it trains: samples, MLflow, Prometheus, a trace; and that looking changes nothing."""

import gzip
import json
import urllib.request
from functools import partial

import pytest
import torch
from examples import Autoencoder, Pair
from pydantic import ValidationError
from ranks import on_ranks
from torch import nn
from training import session

import genloom
from genloom_platform.config import Samples, read_values, resolve
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Stream
from genloom_platform.models.registry import Registry
from genloom_platform.observe.display import details
from genloom_platform.train import flops, launch, runs, showing
from genloom_platform.train.progress import Report


def stream_of(store, generator):
    config = resolve(read_values(generator, ["data=digits"]), store)
    return Stream(store, manifests.load(store, "digits"), config.trainable(), 24, 0)


def test_prompts_ask_for_every_class_in_turn_with_seeds_that_follow(digits_store):
    asked = showing.prompts(stream_of(digits_store, "image-vae"), Samples(count=12))
    assert [prompt.label for prompt in asked] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert [prompt.seed for prompt in asked] == list(range(12))
    fixed = showing.prompts(stream_of(digits_store, "image-vae"), Samples(count=3, prompt={"label": 7}))
    assert [prompt.label for prompt in fixed] == [7, 7, 7]


class Enlarging(Autoencoder):
    class Prompt(genloom.Prompt):
        image: genloom.Image
        factor: int


def test_media_that_must_be_given_come_from_the_dataset(digits_store):
    stream = Stream(digits_store, manifests.load(digits_store, "digits"), Enlarging(), 24, 0)
    asked = showing.prompts(stream, Samples(count=2, prompt={"factor": 2}))
    assert all(prompt.image.array.shape == (8, 8, 1) for prompt in asked)
    assert asked[0].image != asked[1].image
    with pytest.raises(ValidationError, match="factor"):
        showing.prompts(stream, Samples(count=2))


@pytest.mark.parametrize("kind", [Autoencoder, Pair])
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_making_samples_leaves_the_training_as_it_was(digits_store, kind, stage):
    unseen, _ = on_ranks(
        2, session, digits_store.url, kind, f"unseen-{kind.__name__}-{stage}", 8, stage
    )[0]
    looking = partial(session, samples=Samples(every=2), looking=True)
    seen, _ = on_ranks(2, looking, digits_store.url, kind, f"seen-{kind.__name__}-{stage}", 8, stage)[0]
    assert seen == unseen


class Linear(genloom.Predictor):
    """One matrix, and a loss that may look at values."""

    contract = "1.0"
    looks: bool = False

    class Data(genloom.Data):
        image: genloom.ImageColumn

    def build(self, data):
        return nn.Linear(64, 32, bias=False)

    def prepare(self, row, data):
        return {"x": row["image"].to_chw().reshape(-1)}

    def loss(self, model, batch):
        value = model(batch["x"]).square().mean()
        return genloom.Loss(value if not self.looks or value.item() > 0 else -value)

    def predict(self, model, batch):
        return []


def test_the_flops_of_a_step_are_those_of_its_matrices(digits_store):
    stream = Stream(digits_store, manifests.load(digits_store, "digits"), Linear(), 24, 0)
    forward_and_weights = 2 * 2 * 64 * 32 * 12  # no gradient goes to the input
    assert flops.of_a_step(stream, 2) == forward_and_weights
    assert torch.empty(0).device.type == "cpu"


def test_the_flops_of_code_that_needs_values_are_unknown(digits_store, capsys):
    stream = Stream(digits_store, manifests.load(digits_store, "digits"), Linear(looks=True), 24, 0)
    assert flops.of_a_step(stream, 1) == 0
    assert "are unknown" in capsys.readouterr().out


def test_the_peak_is_that_of_the_device_and_the_precision():
    assert flops.peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert flops.peak_of("NVIDIA H100 PCIe", "bf16") == 756e12
    assert flops.peak_of("NVIDIA A100-SXM4-80GB", "fp32") == 156e12
    assert flops.peak_of("a GPU of tomorrow", "bf16") == 0
    assert flops.peak(torch.device("cpu"), "bf16") == 0


def test_the_display_says_where_a_step_goes():
    report = Report(3, [], 100.0, {"data": 0.01, "compute": 0.03}, 2_500_000_000, 0.413)
    assert details(report) == "step 40.0 ms (data 25%, compute 75%), memory 2.5 GB a worker, MFU 41.3%"
    assert details(report._replace(memory_bytes=0, mfu=None)) == "step 40.0 ms (data 25%, compute 75%)"


@pytest.fixture(scope="module")
def watched(digits_store, ray_cluster):
    """A run with all that can be shown of it, what was said, and Prometheus's page while it ran.

    It is stopped when its figures are on that page, which Ray renews every ten seconds.
    """
    words = [
        "data=digits", "steps=100000", "global_batch=24", "scale.workers=2", "evaluate=false",
        "samples.every=20", "samples.count=4", "profile=true",
    ]  # fmt: skip
    events, pages = [], []
    before = set(digits_store.names("runs"))

    def on_report(report):  # the cluster's page has other runs' figures too
        (run,) = set(digits_store.names("runs")) - before
        if not pages or "ray_genloom_train_step{" not in "".join(_of(run, pages[-1])):
            pages.append(_prometheus())
        elif report.step >= 40:
            runs.ask_to_stop(digits_store, run)

    done = launch.train(
        digits_store, resolve(read_values("example-slow", words), digits_store),
        on_report=on_report, on_event=events.append,
    )  # fmt: skip
    return done, events, pages[-1]


def _of(run, page):
    """The lines of Prometheus's page with a run's figures."""
    return [line for line in page.splitlines() if f'run="{run}"' in line]


def _prometheus():
    import ray

    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def test_samples_of_a_training_are_files_of_the_run_and_pictures_in_mlflow(watched, digits_store):
    done, events, _ = watched
    names = digits_store.names(f"runs/{done.run.name}/samples")
    assert names == [f"{step:08d}.png" for step in range(20, done.status.step, 20)]
    sheet = genloom.Image.from_bytes(digits_store.read(f"runs/{done.run.name}/samples/{names[0]}"))
    assert sheet.array.shape[2] == 3
    assert any("samples of step 20: file://" in event for event in events)
    client = Registry(digits_store).client
    pictures = [file.path for file in client.list_artifacts(done.run.tracking_id, "images")]
    assert any("samples" in path and path.endswith(".png") for path in pictures)


def test_mlflow_has_the_dataset_as_input_and_where_the_time_went(watched, digits_store):
    done, _, _ = watched
    found = Registry(digits_store).client.get_run(done.run.tracking_id)
    (given,) = found.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == tuple(done.run.dataset.split("@"))
    assert json.loads(given.dataset.profile)["rows"]["train"] == 1599
    assert {"seconds/data", "seconds/compute", "seconds/communication", "memory_bytes"} <= set(
        found.data.metrics
    )
    assert found.data.metrics["memory_bytes"] > 50e6


def test_prometheus_has_the_runs_figures(watched):
    done, _, page = watched
    ours = _of(done.run.name, page)
    for name in ("step", "rows_per_s", "memory_bytes", "workers"):
        assert any(line.startswith(f"ray_genloom_train_{name}{{") for line in ours), name
    assert any('name="loss"' in line for line in ours)
    assert any('phase="communication"' in line for line in ours)


def test_the_trace_opens_and_has_the_phases_and_the_operators(watched, digits_store):
    done, _, _ = watched
    for rank in range(2):
        packed = digits_store.read(f"runs/{done.run.name}/profile/rank-{rank}.json.gz")
        names = [event.get("name") for event in json.loads(gzip.decompress(packed))["traceEvents"]]
        assert {"compute", "data", "communication", "aten::addmm"} <= set(names)
        assert names.count("compute") >= 5


def test_a_generator_that_cannot_make_samples_yet_trains_on_and_says_so_once(digits_store, ray_cluster):
    words = ["data=digits", "steps=6", "global_batch=24", "evaluate=false", "samples.every=2"]
    words += ["samples.prompt.nonsense=1"]
    events = []
    config = resolve(read_values("example-watched", words), digits_store)
    done = launch.train(digits_store, config, on_event=events.append)
    assert done.status.state == "finished"
    assert sum("no samples are shown" in event for event in events) == 1
