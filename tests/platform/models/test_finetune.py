"""Finetunes: what a run takes from its parent, what of it trains, and what is saved."""

import re

import pytest
import torch
import yaml
from finetuning import asked, only, registered, session, several, zero
from ranks import on_ranks

import genloom
from genloom.errors import DataError, GenloomError, InvalidConfig, RequestError
from genloom_platform.config import read_values, resolve
from genloom_platform.data.imports import import_dataset
from genloom_platform.evaluate.evaluate import evaluate_release
from genloom_platform.models import adapter, release
from genloom_platform.models.merge import merge
from genloom_platform.models.registry import Registry
from genloom_platform.models.start import plan
from genloom_platform.observe.display import Display
from genloom_platform.store import Store
from genloom_platform.train import logs, runs

STAGES = (0, 1, 2, 3)
LOW, HIGH = ("0", "1", "2", "3", "4"), ("3", "4", "5", "6", "7")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with the digits, their lower half, digits from the middle, and two texts."""
    folder = tmp_path_factory.mktemp("finetune")
    store = Store((folder / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    only(store, folder, "digits", "low", LOW)
    only(store, folder, "digits", "high", HIGH, rows=10)
    for name, text in [
        ("fox", "the quick brown fox jumps over the lazy dog. "),
        ("cab", "a 7 cab zed! "),
    ]:
        (folder / f"{name}.txt").write_text(text * 60)
        import_dataset(store, "text", str(folder / f"{name}.txt"), name, {"passage": 64})
    return store


def trained(store, generator, data, run, *words, ranks=1):
    """A model trained from nothing: its version."""
    settings = ["global_batch=32", "log_every=1", "evaluate=false", *words]
    config = resolve(read_values(generator, [f"data={data}", *settings]), store)
    return registered(store, ranks, config, run)[0]


@pytest.fixture(scope="module")
def reader(store):
    """A classifier of the lower half of the digits."""
    return trained(store, "image-classifier", "low", "reader", "width=8", "steps=60", "model=reader")


@pytest.fixture(scope="module")
def wide(store):
    """A wider one, and an adapter of it."""
    base = trained(store, "image-classifier", "low", "wide", "width=64", "steps=8", "model=wide")
    config = asked(store, base.full_name, data="low", lora={}, steps=6)
    return base, registered(store, 2, config, "wide-adapter")[0]


@pytest.fixture(scope="module")
def pair(store):
    """A model of two objectives."""
    return trained(store, "example-watched-pair", "digits", "pair", "steps=4", "model=pair")


def state(store, version):
    return release.weights(store, version.release)


NEW = {"layers.12.weight", "layers.12.bias"}
"""The last layer of the classifier, which has a row for each class."""
WAYS = {
    "whole": ({"rates": {"layers.0": 0.1, "*.bias": 2.0}}, lambda name: False),
    "frozen": ({"freeze": ["layers.0", "*.bias"]}, lambda n: n[:9] == "layers.0." or n[-5:] == ".bias"),
    "adapters": (
        {"lora": {"rank": 2, "dropout": 0.1}},
        lambda n: n[:9] in ("layers.1.", "layers.5.") or n[-5:] == ".bias",
    ),
}
"""How a model is finetuned, and which weights then stay what they were."""


@pytest.mark.parametrize("way", WAYS)
def test_every_zero_stage_finetunes_alike(store, reader, way):
    settings, stays = WAYS[way]
    configs = [
        asked(store, "reader@1", data="high", steps=4, deepspeed=zero(n), **settings) for n in STAGES
    ]
    start = plan(store, configs[0])
    runs = [(config, start, f"{way}-{stage}") for stage, config in enumerate(configs)]
    seen = on_ranks(2, several, store.url, runs)[0]
    for stage in STAGES:
        assert seen[stage] == {n: pytest.approx(v, rel=1e-4) for n, v in seen[0].items()}, stage
        made = release.read(store, f"models/reader/{way}-{stage}")
        assert made.parent == reader.full_name
        before, after = state(store, reader), release.weights(store, made)
        still = {name for name in after if torch.equal(before[name], after[name])}
        assert still == {name for name in after if stays(name)} - NEW, stage


def test_a_part_of_lower_rate_moves_by_that_factor(store, reader):
    settings = {"data": "low", "steps": 1, "optimizer": {"name": "SGD", "lr": 0.1}}
    rates = {"layers.0": 0.5, "layers.12.bias": 3.0}
    plain = asked(store, "reader@1", **settings)
    runs = [(plain, plan(store, plain), "rate-plain")]
    for stage in STAGES:
        config = asked(store, "reader@1", rates=rates, deepspeed=zero(stage), **settings)
        runs.append((config, plan(store, config), f"rate-{stage}"))
    on_ranks(2, several, store.url, runs)
    before = state(store, reader)

    def moved(run):
        after = release.weights(store, release.read(store, f"models/reader/{run}"))
        return {name: after[name] - before[name] for name in before}

    whole = moved("rate-plain")
    for stage in STAGES:
        for name, step in moved(f"rate-{stage}").items():
            factor = 0.5 if name.startswith("layers.0.") else 3.0 if name == "layers.12.bias" else 1
            torch.testing.assert_close(step, factor * whole[name], rtol=1e-2, atol=1e-7)


def test_a_finetune_goes_on_without_its_parent_as_if_it_had_not_stopped(store, tmp_path):
    for name, settings in {
        "adapters": {"lora": {"rank": 2, "dropout": 0.1}, "accumulate": 2},
        "frozen": {"freeze": ["layers.0"], "rates": {"layers.4": 0.1}, "precision": "bf16"},
    }.items():
        parent = trained(store, "image-classifier", "low", name, "width=8", "steps=2", f"model={name}")
        for stage in (1, 3):
            config = asked(store, name, data="high", average=0.9, deepspeed=zero(stage), **settings)
            start, run = plan(store, config), f"stopped-{name}-{stage}"
            whole = on_ranks(2, session, store.url, config, start, f"whole-{run}")[0]
            first = on_ranks(2, session, store.url, config, start, run, 4)[0]
            kept = store.read(f"{parent.release.path}/model.safetensors")
            store.remove(f"{parent.release.path}/model.safetensors")
            rest = on_ranks(2, session, store.url, config, start, run)[0]
            assert first | rest == whole
            assert list(rest) == [5, 6, 7, 8]
            store.write(f"{parent.release.path}/model.safetensors", kept)


def test_other_workers_and_stages_go_on_with_adapters(store, reader):
    still = {"shift": 0, "dropout": 0}  # what a loss draws differs with the number of ranks
    config = asked(store, "reader@1", data="high", lora={"rank": 2}, global_batch=24, **still)
    start, seen = plan(store, config), {}
    whole = on_ranks(2, session, store.url, config, start, "whole-elastic")[0]
    for ranks, stage, stop_at in [(2, 1, 3), (1, 3, 6), (2, 2, None)]:
        at = config.model_copy(update={"deepspeed": zero(stage)})
        seen |= on_ranks(ranks, session, store.url, at, start, "elastic", stop_at)[0]
    assert seen == {step: pytest.approx(metrics, rel=1e-4) for step, metrics in whole.items()}


def test_an_adapter_holds_little_and_gives_with_its_base_what_they_give_merged(store, wide):
    base, version = wide
    made = version.release
    print(f"adapter {made.weights_bytes:,} bytes, base {base.release.weights_bytes:,} bytes")
    assert made.weights_bytes < 0.05 * base.release.weights_bytes
    assert made.adapter.base_sha256 == base.release.weights_sha256
    assert made.parent == base.full_name
    trainable, merged, data = release.load(store, made)
    apart = trainable.build(data)
    release.compose(store, made, apart)
    images = torch.rand(16, 1, 8, 8)
    with torch.inference_mode():
        before = release.load(store, base.release)[1](images)
        torch.testing.assert_close(merged(images), apart.eval()(images), atol=1e-5, rtol=0)
        assert not torch.allclose(merged(images), before, atol=1e-3)
    assert list(merged.state_dict()) == list(trainable.build(data).state_dict())
    assert evaluate_release(store, made)["accuracy"] > 0


def test_an_adapter_of_an_adapter_is_composed_of_all_three(store, wide):
    _, first = wide
    config = asked(store, first.full_name, data="high", lora={"rank": 2}, steps=2)
    start = plan(store, config)
    assert {each.name for each in start.renewed} == NEW
    second, _ = registered(store, 1, config, "second-adapter")
    before, after = state(store, first), state(store, second)
    assert torch.equal(before["layers.1.weight"], after["layers.1.weight"])
    moved = (after["layers.9.weight"] - before["layers.9.weight"]).abs().max()
    assert 0 < moved < 0.1


def test_a_merged_adapter_stands_alone(store, wide, tmp_path):
    _, version = wide
    whole = merge(store, version.release, tmp_path / "model.safetensors")
    assert (whole.adapter, whole.parent) == (None, version.release.parent)
    store.upload(tmp_path / "model.safetensors", "models/wide/merged/model.safetensors")
    alone, images = whole.model_copy(update={"run": "merged"}), torch.rand(16, 1, 8, 8)
    with torch.inference_mode():
        outputs = [release.load(store, each)[1](images) for each in (version.release, alone)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)


def test_an_adapter_on_another_base_is_refused(store, wide):
    base, version = wide
    made = version.release
    path = f"{base.release.path}/model.json"
    kept = store.read(path)
    store.write(path, kept.replace(base.release.weights_sha256.encode(), b"0" * 64))
    with pytest.raises(
        DataError, match=rf"adapter of {base.full_name} .*{made.adapter.base_sha256}.* 0000"
    ):
        release.load(store, made)
    store.write(path, kept)
    weights = f"{base.release.path}/model.safetensors"
    content = store.read(weights)
    store.write(weights, content[:-1] + b"?")
    with pytest.raises(DataError, match="are corrupt"):
        release.load(store, made)
    store.write(weights, content)


def test_rows_of_classes_that_both_know_are_carried_over(store, reader):
    config = asked(store, "reader@1", data="high", steps=1, optimizer={"name": "SGD", "lr": 1e-9})
    start = plan(store, config)
    assert start.lines[1:] == [
        "re-initialised: layers.12.weight [5, 64], 2 of 5 rows kept",
        "re-initialised: layers.12.bias [5], 2 of 5 rows kept",
    ]
    made, _ = registered(store, 1, config, "rows")
    before, after = state(store, reader), state(store, made)
    for name in NEW:
        torch.testing.assert_close(after[name][:2], before[name][3:])
        assert not torch.allclose(after[name][2:], before[name][2:])
    again = plan(store, asked(store, "reader@1", data="digits", width=16))
    assert "re-initialised: layers.12.weight [5, 64] → [10, 128]" in again.lines


def test_rows_of_characters_are_carried_over_with_those_beside_them(store):
    words = ("width=8", "embedding=4", "context=16", "steps=1", "model=writer")
    parent = trained(store, "text-rnn", "fox", "writer", *words)
    start = plan(store, asked(store, "writer@1", data="cab"))
    old, new = (release.read(store, parent.release.path).columns["text"].vocabulary, " !7abcdez")
    common = len(set(old) & set(new))
    assert start.lines[1:] == [
        f"re-initialised: embedding.weight [{len(old) + 2}, 4] → [11, 4], {common + 2} of 11 rows kept",
        f"re-initialised: output.weight [{len(old) + 1}, 8] → [10, 8], {common + 1} of 10 rows kept",
        f"re-initialised: output.bias [{len(old) + 1}] → [10], {common + 1} of 10 rows kept",
    ]
    made, _ = registered(store, 1, asked(store, "writer@1", data="cab", steps=1), "rewriter")
    assert made.release.generator == parent.release.generator
    with pytest.raises(InvalidConfig, match=r"fits no linear .* \(it fits LSTM\)"):
        plan(store, asked(store, "writer@1", data="fox", lora={"targets": ["recurrent"]}))
    with pytest.raises(InvalidConfig, match="has no linear or convolutional layer"):
        plan(store, asked(store, "writer@1", data="cab", lora={}))
    assert plan(store, asked(store, "writer@1", data="fox", lora={})).targets == ("output",)


def test_objectives_share_what_a_finetune_trains(store, pair):
    settings = {"data": "digits", "steps": 4}
    ways = [{"freeze": ["decoder.bias", "encoder.weight"]}, {"lora": {"rank": 2}}]
    for number, way in enumerate(ways):
        configs = [asked(store, "pair@1", deepspeed=zero(n), **settings, **way) for n in (0, 2, 3)]
        start = plan(store, configs[0])
        runs = [(config, start, f"pair-{number}-{n}") for n, config in enumerate(configs)]
        seen = on_ranks(2, several, store.url, runs)[0]
        for each in seen[1:]:
            assert each == {step: pytest.approx(v, rel=1e-4) for step, v in seen[0].items()}
        after = release.weights(store, release.read(store, f"models/pair/pair-{number}-2"))
        before = state(store, pair)
        same = {name for name in after if torch.equal(before[name], after[name])}
        assert same == [{"decoder.bias", "encoder.weight"}, {"decoder.bias", "encoder.bias"}][number]
    with pytest.raises(InvalidConfig, match="leaves the objective 'encoder' nothing to train"):
        plan(store, asked(store, "pair@1", freeze=["encoder"], **settings))
    with pytest.raises(
        InvalidConfig, match="'decoder' nothing to train; give some of its layers an adapter"
    ):
        plan(store, asked(store, "pair@1", lora={"targets": ["encoder"]}, **settings))


@pytest.mark.parametrize(("settings", "message"), [
    ({"freeze": ["layers.0", "layer.4"]}, "freeze = 'layer.4': fits no parameter .* did you mean 'layers.4'"),
    ({"freeze": ["*"]}, "leaves the objective 'loss' nothing to train"),
    ({"freeze": ["xyz"], "lora": None}, "there are layers.0.weight, .* and 6 more"),
    ({"lora": {"rank": 0}}, "finetune.lora.rank = 0: .* give 1 or more"),
    ({"lora": {"rank": 4}, "freeze": ["layers.0"]}, r"freeze and lora exclude .* in lora\.targets$"),
    ({"lora": {"targets": ["layers.1"]}}, r"fits no linear .* \(it fits GroupNorm\)"),
    ({"lora": {"rnak": 4}}, "did you mean 'rank'"),
    ({"rates": {"layers.99": 2.0}}, "finetune.rates.layers.99: fits no parameter that trains"),
    ({"rates": {"layers.0": 0.1}, "freeze": ["layers.0"]}, "fits no parameter that trains"),
    ({"rates": {"layers.0": 0}}, "rates.layers.0 = 0: .* more than 0"),
    ({"width": -1}, "generator.width = -1"),
    ({"stepz": 3}, "generator.stepz = 3: there is no such key"),
    ({"data": "fox"}, "learns from a column 'image'"),
    ({"data": "lov"}, "did you mean 'low'"),
    ({"generator.name": "image-vae"}, "reader@1 is of the generator 'image-classifier'"),
])  # fmt: skip
def test_what_cannot_be_finetuned_so_is_refused_before_the_start(store, reader, settings, message):
    with pytest.raises(GenloomError, match=message) as error:
        plan(store, asked(store, "reader@1", **{"data": "low"} | settings))
    assert error.value.exit_status == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"generator": {"name": "image-reader"}}, "needs 'image-reader' of .* pip install genloom-image"),
    ({"contract": "2.0"}, "for contract 2.0, .* is written for 1.0; pip install genloom-image=="),
])  # fmt: skip
def test_a_parent_whose_plugin_is_not_there_says_what_to_install(store, reader, change, message):
    path = f"{reader.release.path}/model.json"
    kept = store.read(path)
    store.write(path, reader.release.model_copy(update=change).model_dump_json().encode())
    with pytest.raises(RequestError, match=message):
        asked(store, "reader@1", data="low")
    store.write(path, kept)


def test_a_parent_whose_weights_are_gone_or_damaged_is_told_before_the_start(store, reader):
    path = f"{reader.release.path}/model.safetensors"
    kept = store.read(path)
    for content, message in [(kept[:90], "are corrupt"), (b"", "are corrupt"), (None, "are gone")]:
        store.remove(path)
        if content is not None:
            store.write(path, content)
        with pytest.raises(DataError, match=message):
            plan(store, asked(store, "reader@1", data="low"))
    store.write(path, kept)


def test_an_unknown_parent_and_all_else_that_is_wrong_are_told_at_once(store, reader):
    with pytest.raises(InvalidConfig) as error:
        asked(store, "raeder", data="lov", steps=0)
    assert [each.where for each in error.value.problems] == ["finetune.model", "data", "steps"]
    assert Registry(store).names().count("reader") == 1


def test_layers_that_share_or_compute_their_weights_have_no_adapter():
    from torch import nn

    tied = nn.Linear(4, 4)
    model = nn.ModuleDict({
        "one": tied, "again": tied, "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        "attention": nn.MultiheadAttention(4, 2), "grouped": nn.Conv2d(4, 4, 3, groups=2),
        "back": nn.ConvTranspose2d(4, 4, 3), "conv": nn.Conv1d(4, 4, 3), "cube": nn.Conv3d(4, 4, 3),
        "embedding": nn.Embedding(4, 4), "head": nn.Linear(4, 4),
    })  # fmt: skip
    layers = adapter.possible(model, {"head.bias"})
    assert list(layers) == ["conv", "cube", "embedding"]
    assert adapter.chosen(layers, []) == ("conv", "cube")
    assert adapter.chosen(layers, ["emb*"]) == ("embedding",)


def test_a_frozen_normalisation_keeps_its_statistics(store):
    from torch import nn

    from genloom_platform.models.finetune import Finetune
    from genloom_platform.models.start import Start, arrange

    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    arrange(model, Finetune(model="x", freeze=["0"]), Start(parent="x@1", place="", sha256=""))
    model.train()(torch.rand(8, 4))
    assert model[0].running_mean.eq(0).all()
    assert not model[2].running_mean.eq(0).any()


@pytest.fixture(scope="module")
def on_ray(store, reader, ray_cluster):
    """A finetune by team code on two workers."""
    studio = genloom.connect(store.url)
    settings = {"steps": 30, "global_batch": 16, "model": "teen", "lora": {"rank": 2}}
    return studio.finetune("reader@1", data="high", name="teen-run", workers=2, **settings)


def test_team_code_finetunes_and_the_result_names_its_parent(store, on_ray, capfd):
    version = on_ray.model.version
    assert version.release.parent == "reader@1"
    assert version.release.adapter.targets == ("layers.0", "layers.4", "layers.9")
    assert 0 < version.metrics["accuracy"] <= 1
    client = Registry(store).client
    run = runs.find(store, "teen-run")
    assert client.get_run(run.tracking_id).data.tags["parent"] == "reader@1"
    assert client.get_model_version("teen", "1").tags["parent"] == "reader@1"
    assert run.start == plan(store, run.config)
    log = "".join(logs.read(store, "teen-run", 1))
    assert all(line in log for line in run.start.lines)
    with Display(store) as display:
        display.start(run, 0)
    shown = capfd.readouterr().out
    assert all(line in shown for line in run.start.lines)


def test_an_adapter_answers_as_any_model_does(store, on_ray):
    loaded = genloom.connect(store.url).load_model("teen")
    with torch.inference_mode():
        labels = loaded.trainable.predict(loaded.module, {"image": torch.rand(3, 1, 8, 8)})
    assert {label.name for label in labels} <= set(HIGH)


def test_the_command_says_what_would_train(store, reader, genloom_command):
    words = ["rates.layers.0=0.1", "freeze=[layers.4]", "--data", "high", "--dry-run"]
    done = genloom_command("finetune", "reader@1", *words, store=store.url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"# finetunes reader@1: 4,\d+ of 7,\d+ parameters train\n", done.stdout)
    assert "# re-initialised: layers.12.weight [5, 64], 2 of 5 rows kept" in done.stdout
    assert yaml.safe_load(done.stdout)["finetune"] == {
        "model": "reader@1", "freeze": ["layers.4"], "lora": None, "rates": {"layers.0": 0.1},
    }  # fmt: skip
