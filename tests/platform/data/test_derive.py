"""Datasets from datasets: cleaned, labelled, augmented, widened by a model; keys, splits and parents are kept."""

import numpy as np
import pytest
from PIL import Image as pil

from genloom import Image
from genloom.errors import DataError, RequestError, UnknownName
from genloom_platform.data import derive, encoding, shards
from genloom_platform.data.generated import levelled
from genloom_platform.data.imports import import_dataset
from genloom_platform.data.look import examples, picture
from genloom_platform.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store((tmp_path / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    return store


def rows_of(store, manifest):
    found = {}
    for shard in manifest.shards:
        table = shards.read_chunks(
            store, manifest, shard, range(len(shard.chunks)), [*manifest.columns, encoding.KEY]
        )
        for key, row in zip(
            table.column(encoding.KEY).to_pylist(),
            encoding.decode(manifest.columns, table),
            strict=True,
        ):
            found[key] = {**row, "split": shard.split}
    return found


def test_a_cleaned_dataset_keeps_keys_splits_and_names_its_parent(store):
    parent = import_dataset(store, "digits", None, None, {})
    clean = derive.clean(
        store, "digits", "clean", {"clean": {"images": {"size": [4, 4], "mode": "rgb"}}}
    )
    before, after = rows_of(store, parent), rows_of(store, clean)
    assert {key: row["split"] for key, row in after.items()} == {
        key: row["split"] for key, row in before.items()
    }
    assert clean.columns["image"].model_dump() == {
        "kind": "image",
        "height": 4,
        "width": 4,
        "channels": 3,
    }
    assert clean.provenance.parents == (parent.full_name,)
    assert clean.provenance.recipe["clean"] == {"images": {"size": [4, 4], "mode": "rgb"}}


def test_augmented_copies_stay_in_training_and_are_a_function_of_the_seed(store):
    settings = {"augment": {"copies": 2, "images": {"shift": 0.2}}}
    wide = derive.clean(store, "digits", "wide", settings)
    parent = import_dataset(store, "digits", None, None, {})
    assert wide.splits == {"test": parent.splits["test"], "train": 3 * parent.splits["train"]}
    rows = rows_of(store, wide)
    copies = {key: row for key, row in rows.items() if "#augmented-" in key}
    assert all(row["split"] == "train" for row in copies.values())
    assert all(row["label"] == rows[key.partition("#")[0]]["label"] for key, row in copies.items())
    changed = sum(row["image"] != rows[key.partition("#")[0]]["image"] for key, row in copies.items())
    assert changed > len(copies) * 0.8
    assert derive.clean(store, "digits", "again", settings).digest == wide.digest
    assert derive.clean(store, "digits", "other", {**settings, "seed": 1}).digest != wide.digest


def test_labels_from_a_table_are_added_and_corrected(store, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("key,label,writer,slant\ndigits/0,7,ann,0.5\ndigits/1,,bob,1\ndigits/2,3,ann,2\n")
    manifest = derive.clean(store, "digits", "l", {"labels": {"file": str(table), "missing": "drop"}})
    rows = rows_of(store, manifest)
    assert {key: row["label"] for key, row in rows.items()} == {
        "digits/0": 7,
        "digits/1": 1,
        "digits/2": 3,
    }
    assert manifest.columns["writer"].names == ("ann", "bob")
    assert rows["digits/1"]["writer"] == 1
    assert rows["digits/1"]["slant"] == 1.0
    assert manifest.quarantine.rules == {"no label": 1794}


@pytest.mark.parametrize(("content", "message"), [
    ("key,label\ndigits/0,eleven\n", "the classes are 0, 1"),
    ("key,label\ndigits/0,1\ndigits/0,2\n", "was named before"),
    ("name,label\ndigits/0,1\n", "no column 'key'"),
])  # fmt: skip
def test_a_wrong_table_of_labels_is_told_with_its_row(store, tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises((DataError, RequestError), match=message):
        derive.clean(store, "digits", "l", {"labels": {"file": str(tmp_path / "labels.csv")}})


def test_a_missing_label_can_be_an_error(store, tmp_path):
    (tmp_path / "labels.jsonl").write_text('{"key": "digits/0", "label": "1"}\n')
    labels = {"file": str(tmp_path / "labels.jsonl"), "missing": "fail"}
    with pytest.raises(DataError, match=r"labels.jsonl does not name it"):
        derive.clean(store, "digits", "l", {"labels": labels})


def test_levelling_brings_the_counts_nearest_to_equal():
    drawn = levelled([5, 0, 3], 6)
    assert sorted(drawn.count(c) + n for c, n in enumerate([5, 0, 3])) == [4, 5, 5]
    assert levelled([0, 0], 4) == [0, 1, 0, 1]


def test_unknown_datasets_and_models_are_named(store):
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        derive.clean(store, "digit", "x", {"seed": 1})
    with pytest.raises(UnknownName):
        derive.extend(store, "digits", "x", "no-model", 10)
    with pytest.raises(UnknownName):
        derive.annotate(store, "digits", "x", "no-model")


def test_sixteen_examples_are_one_picture(store, tmp_path):
    manifest = import_dataset(store, "digits", None, None, {})
    rows = examples(store, manifest, "train")
    assert len(rows) == 16
    picture(manifest, rows).save(tmp_path / "sheet.png")
    with pil.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 700
        assert sheet.height > 800
    assert isinstance(rows[0]["image"], Image)
    assert np.ptp(picture(manifest, rows).array) > 200


def registered(store, generator):
    """An untrained model of a generator, registered as a run would."""
    import torch

    from genloom_platform.config import resolve
    from genloom_platform.data import manifest as manifests
    from genloom_platform.models import release
    from genloom_platform.models.registry import Registry

    manifest = manifests.load(store, "digits")
    config = resolve({"generator": {"name": generator}, "data": "digits"}, store)
    torch.manual_seed(0)
    trainable = config.trainable()
    module = trainable.build(manifest.facts_for(trainable)).eval()
    registry = Registry(store)
    assert registry.client  # opened before there are files of models, as a run does
    release.export(store, "run", config, module, manifest)
    return registry.register(release.read(store, f"models/{generator}/run"), {}, None)


def test_a_predictor_labels_rows_with_its_confidence_and_version(store):
    registered(store, "image-classifier")
    manifest = derive.annotate(store, "digits", "named", "image-classifier", "guess")
    rows = rows_of(store, manifest)
    assert manifest.columns["guess"].names == tuple("0123456789")
    assert manifest.columns["guess_model"].names == ("image-classifier@1",)
    assert all(0.1 <= row["guess_confidence"] <= 1 for row in rows.values())
    assert manifest.provenance.parents[1] == "image-classifier@1"
    before = rows_of(store, import_dataset(store, "digits", None, None, {}))
    assert {key: row["label"] for key, row in rows.items()} == {
        k: r["label"] for k, r in before.items()
    }


def test_samples_of_a_generator_are_added_marked_and_balanced(store):
    registered(store, "image-vae")
    manifest = derive.extend(store, "digits", "more", "image-vae", 60, balance="label")
    parent = import_dataset(store, "digits", None, None, {})
    assert manifest.splits == {"test": parent.splits["test"], "train": parent.splits["train"] + 60}
    rows = rows_of(store, manifest)
    made = {key: row for key, row in rows.items() if row["generated"] == 1}
    assert len(made) == 60
    assert all(key.startswith("image-vae@1#") and row["split"] == "train" for key, row in made.items())
    counts = manifest.statistics["train"]["label"].counts
    before = parent.statistics["train"]["label"].counts
    assert max(counts.values()) - min(counts.values()) < max(before.values()) - min(before.values())
    assert (
        derive.extend(store, "digits", "again", "image-vae", 60, balance="label").digest
        == manifest.digest
    )
    with pytest.raises(RequestError, match="cannot ask for it; give label"):
        derive.extend(store, "digits", "x", "image-vae", 5, balance="image")
