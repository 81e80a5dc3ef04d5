"""A version as one file: it arrives whole in another store, and nothing else gets in with it."""

import hashlib
import json
import random
import shutil
import zipfile

import pytest
import torch
from registering import copy_of

from genloom.errors import DataError, GenloomError, RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.evaluate.measured import Measured
from genloom_platform.models import archive, loading, unpack
from genloom_platform.models.lineage import lineage
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store


@pytest.fixture(scope="module")
def origin(digits_and_registry, tmp_path_factory):
    """A store with an evaluated generator."""
    made = copy_of(digits_and_registry, tmp_path_factory.mktemp("origin"))
    version = made.make("image-vae", "width=8", evaluated=True, log=[3.0, 2.0])
    Registry(made.store).tag(version, {"team": "vision"})
    return made.store


@pytest.fixture(scope="module")
def exported(origin, tmp_path_factory):
    """Its archive."""
    file = tmp_path_factory.mktemp("archive") / "vae.zip"
    archive.export(origin, "image-vae", file)
    return file


@pytest.fixture
def elsewhere(digits_and_registry, tmp_path):
    """Another store, with a registry and no data."""
    (tmp_path / "elsewhere").mkdir()
    for name in ("mlflow.db", "mlflow.json"):
        shutil.copy(digits_and_registry / name, tmp_path / "elsewhere" / name)
    return Store((tmp_path / "elsewhere").as_uri())


def contents(file):
    with zipfile.ZipFile(file) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def packed_again(file, files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", method) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return file


def test_a_version_arrives_whole_in_another_store(exported, elsewhere, origin):
    made = unpack.import_(elsewhere, exported)
    old = Registry(origin).find("image-vae")
    assert made.full_name == "image-vae@1"
    assert made.release == old.release
    assert made.metrics == old.metrics
    assert isinstance(made.metrics["bits_per_unit"], Measured)
    assert made.metrics["bits_per_unit"].on == old.metrics["bits_per_unit"].on
    assert made.tags == {"team": "vision"}
    there, here = loading.load(elsewhere, "image-vae"), loading.load(origin, "image-vae")
    for name, weight in here.module.state_dict().items():
        assert torch.equal(weight, there.module.state_dict()[name])
    for name in ("samples/sheet.png", "card.md", "loss.png"):
        assert elsewhere.read(f"{made.place}/{name}") == origin.read(f"{old.place}/{name}")
    assert b"data:image/png;base64," in elsewhere.read(f"{made.place}/card.html")


def test_an_imported_version_still_tells_where_it_comes_from(exported, elsewhere, origin):
    made = unpack.import_(elsewhere, exported, "theirs")
    assert made.full_name == "theirs@1"
    node = lineage(elsewhere, made)
    (run,) = node.of_kind("run")
    assert "stayed in the store that this was exported from" in run.gone
    assert run.facts["steps"] == "3"
    (dataset,) = node.of_kind("dataset")
    assert dataset.name == manifests.load(origin, "digits").full_name
    assert dataset.facts["rows"] == "198 test, 1,599 train"
    assert node.of_kind("source")[0].name == "digits"


def test_it_can_be_exported_and_imported_again(exported, elsewhere, origin, tmp_path):
    unpack.import_(elsewhere, exported)
    archive.export(elsewhere, "image-vae", tmp_path / "again.zip")
    made = unpack.import_(origin, tmp_path / "again.zip", "back")
    assert lineage(origin, made).of_kind("run")[0].gone == ""


def test_nothing_is_written_over(exported, elsewhere, origin):
    with pytest.raises(RequestError, match="there already"):
        archive.export(origin, "image-vae", exported)
    unpack.import_(elsewhere, exported)
    with pytest.raises(RequestError, match="here already, as image-vae@1"):
        unpack.import_(elsewhere, exported)
    assert len(Registry(elsewhere).versions()) == 1


def test_corrupt_weights_are_not_exported(versions, store, tmp_path):
    version = versions.make()
    weights = f"{version.place}/model.safetensors"
    store.write(weights, store.read(weights)[:-1] + b"x")
    with pytest.raises(DataError, match="corrupt; nothing was exported"):
        archive.export(store, "image-classifier", tmp_path / "out.zip")
    assert list(tmp_path.glob("out.zip*")) == []


def with_a_way_out(files):
    return {**files, "samples/../../../out.png": b"x"}


def with_an_absolute_path(files):
    return {**files, "/tmp/out.png": b"x"}


def with_a_program(files):
    return {**files, "samples/run.py": b"x"}


def with_other_weights(files):
    return {**files, "model.safetensors": files["model.safetensors"][:-4] + b"evil"}


def with_longer_weights(files):
    return {**files, "model.safetensors": files["model.safetensors"] + b"x"}


def without_a_file(files):
    return {name: content for name, content in files.items() if name != "card.md"}


def with_one_more_file(files):
    return {**files, "samples/99.png": b"x"}


def with_another_name(files):
    return restated(files, "model.json", "name", "../../evil")


def with_another_run(files):
    return restated(files, "model.json", "run", "../evil")


def with_weights_of_another_digest(files):
    return restated(files, "model.json", "weights_sha256", "0" * 64)


def of_another_format(files):
    stated = json.loads(files["archive.json"])
    return {**files, "archive.json": json.dumps({**stated, "format": 2}).encode()}


def with_broken_contents(files):
    return {**files, "archive.json": b"{"}


def without_contents(files):
    return {name: content for name, content in files.items() if name != "archive.json"}


def restated(files, file, key, value):
    """A description with another value, and contents that state its digest rightly."""
    content = json.dumps({**json.loads(files[file]), key: value}).encode()
    stated = json.loads(files["archive.json"])
    stated["files"][file] = {
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return {**files, file: content, "archive.json": json.dumps(stated).encode()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_a_way_out, "which no export has"),
        (with_an_absolute_path, "which no export has"),
        (with_a_program, "which no export has"),
        (with_other_weights, r"altered: model\.safetensors"),
        (with_longer_weights, r"altered: model\.safetensors"),
        (without_a_file, r"altered: card\.md"),
        (with_one_more_file, r"altered: samples/99\.png"),
        (with_another_name, "no name for a model"),
        (with_another_run, "no name for a run"),
        (with_weights_of_another_digest, "not those that model.json describes"),
        (of_another_format, "has the format 2"),
        (with_broken_contents, r"archive\.json cannot be read"),
        (without_contents, "no archive of a model"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_was_altered_is_refused_and_leaves_nothing(exported, elsewhere, tmp_path, change, words):
    before = elsewhere.sizes("")
    altered = packed_again(tmp_path / "altered.zip", change(contents(exported)))
    with pytest.raises(GenloomError, match=words):
        unpack.import_(elsewhere, altered)
    assert {name for name in elsewhere.sizes("") if "mlflow" not in name} == {
        name for name in before if "mlflow" not in name
    }


def test_a_bomb_is_refused_before_it_is_unpacked(exported, elsewhere, tmp_path):
    files = contents(exported) | {"model.safetensors": b"\0" * (64 << 20)}
    bomb = packed_again(tmp_path / "bomb.zip", files, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="packed or encrypted"):
        unpack.import_(elsewhere, bomb)


def test_damage_anywhere_is_told_in_our_words(exported, elsewhere, tmp_path):
    """Bytes that were cut off or flipped, at many places."""
    whole = exported.read_bytes()
    rng = random.Random(0)
    broken = tmp_path / "broken.zip"
    for _ in range(60):
        place = rng.choice([rng.randrange(len(whole)), len(whole) - rng.randrange(1, 4000)])
        cut = rng.random() < 0.3
        broken.write_bytes(
            whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        )
        try:
            made = unpack.import_(elsewhere, broken, "survivor")
        except GenloomError:
            assert elsewhere.names("models/survivor") == []
        else:  # a byte that means nothing, as of a time
            assert (
                made.release.weights_sha256
                == Registry(elsewhere).find("survivor").release.weights_sha256
            )
            Registry(elsewhere).client.delete_model_version("survivor", str(made.number))
            elsewhere.delete(made.place)


@pytest.mark.parametrize("name", ["missing.zip", "text.zip", "empty.zip"])
def test_what_is_no_archive_is_told(elsewhere, tmp_path, name):
    (tmp_path / "text.zip").write_text("no archive")
    packed_again(tmp_path / "empty.zip", {})
    with pytest.raises(RequestError, match=r"no file|no archive of a model"):
        unpack.import_(elsewhere, tmp_path / name)
