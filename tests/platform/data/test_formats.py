"""Formats, from files in the layout as published, made here."""

import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from genloom import Image
from genloom.errors import DataError, RequestError, UnknownName
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 20, 3, 32, 32), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, (6, 20))
FILES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


def binary_archive(folder):
    """CIFAR-10's binary version: records of a label byte and 3,072 pixel bytes."""
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, pictures, labels in zip(FILES, PICTURES, LABELS, strict=True):
            records = np.concatenate([labels[:, None].astype(np.uint8), pictures.reshape(20, -1)], 1)
            add(archive, f"cifar-10-batches-bin/{name}.bin", records.tobytes())
    return path


def python_archive(folder):
    """CIFAR-10's python version: pickled dicts with byte strings as keys, as Python 2 wrote them."""
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, pictures, labels in zip(FILES, PICTURES, LABELS, strict=True):
            batch = {
                b"data": pictures.reshape(20, -1),
                b"labels": labels.tolist(),
                b"batch_label": b"x",
            }
            add(archive, f"cifar-10-batches-py/{name}", pickle.dumps(batch, protocol=2))
    return path


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def rows_of(store, manifest, split):
    found = []
    for shard in manifest.shards_of(split):
        shards.verify(store, manifest, shard)
        for chunk in range(len(shard.chunks)):
            (batch,) = shards.read_chunks(store, manifest, shard, [chunk])
            found += list(shards.decode(manifest.columns, pa.Table.from_batches([batch])))
    return found


@pytest.fixture
def store(tmp_path):
    return Store((tmp_path / "store").as_uri())


@pytest.mark.parametrize("make", [binary_archive, python_archive])
def test_cifar10_comes_in_pixel_by_pixel(store, tmp_path, make):
    manifest = import_dataset(store, "cifar10", str(make(tmp_path)), "cifar", {})
    assert manifest.splits == {"train": 100, "test": 20}
    assert manifest.columns["image"].model_dump() == {
        "kind": "image", "height": 32, "width": 32, "channels": 3,
    }  # fmt: skip
    rows = rows_of(store, manifest, "train")
    for row, pixels, label in zip(
        rows, PICTURES[:5].reshape(-1, 3, 32, 32), LABELS[:5].ravel(), strict=True
    ):
        assert row == {"image": Image(pixels.transpose(1, 2, 0)), "label": label}


def test_both_archives_and_s3_give_the_same_version(store, tmp_path, s3):
    first = import_dataset(store, "cifar10", str(binary_archive(tmp_path)), "cifar", {})
    again = import_dataset(store, "cifar10", str(python_archive(tmp_path)), "cifar", {})
    elsewhere = import_dataset(
        Store(f"{s3}/cifar"), "cifar10", str(binary_archive(tmp_path)), "cifar", {}
    )
    assert first.digest == again.digest == elsewhere.digest
    assert len([name for name in store.names("datasets/cifar") if not name.endswith(".json")]) == 1
    assert len(rows_of(Store(f"{s3}/cifar"), elsewhere, "test")) == 20


def test_a_pickle_that_would_run_code_is_refused(store, tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "mark"), "w")

    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        add(archive, "data_batch_1", pickle.dumps(Payload()))
    with pytest.raises(DataError, match=r"asks to run (io|_io|builtins).open"):
        import_dataset(store, "cifar10", str(tmp_path / "evil.tar.gz"), "cifar", {})
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(("damage", "message"), [
    (lambda data: data[:-100], "not a whole tar archive|cut short"),
    (lambda data: b"no archive at all", "not a whole tar archive"),
])  # fmt: skip
def test_a_damaged_archive_is_one_error_and_leaves_nothing(store, tmp_path, damage, message):
    path = binary_archive(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        import_dataset(store, "cifar10", str(path), "cifar", {})
    assert store.names("datasets/cifar") == []
    assert manifests.list_datasets(store) == []


TEXT = "Grüße, 世界! The quick brown fox.\n" * 400


def test_text_keeps_every_character_in_order(store, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    manifest = import_dataset(
        store, "text", str(tmp_path / "a.txt"), "fox", {"passage": 100, "test": 0.1}
    )
    train, test = (
        "".join(r["text"] for r in rows_of(store, manifest, split)) for split in ("train", "test")
    )
    assert train + test == TEXT
    assert len(test.encode()) == pytest.approx(len(TEXT.encode()) / 10, abs=4)
    assert manifest.columns["text"].vocabulary == tuple(sorted(set(train)))
    assert manifest.columns["text"].max_chars == 100


def test_a_folder_of_texts_is_read_in_order(store, tmp_path):
    for name, text in (("b", "2" * 50), ("a", "1" * 50)):
        (tmp_path / f"{name}.txt").write_text(text)
    manifest = import_dataset(store, "text", str(tmp_path), "numbers", {"test": 0.25})
    assert [row["text"] for row in rows_of(store, manifest, "train")] == ["1" * 50, "2" * 25]


@pytest.mark.parametrize(("content", "message"), [
    (b"abc\xff\xfe", "not UTF-8 text: byte 0xff at offset 3"),
    (b"", "is empty"),
])  # fmt: skip
def test_what_is_no_text_is_told_with_its_place(store, tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_dataset(store, "text", str(tmp_path / "a.txt"), None, {})


def test_wrong_requests_name_what_is_known(store, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        import_dataset(store, "digit", None, None, {})
    with pytest.raises(RequestError, match="give its path"):
        import_dataset(store, "text", None, None, {})
    with pytest.raises(RequestError, match="does not exist"):
        import_dataset(store, "text", str(tmp_path / "none"), None, {})
    with pytest.raises(RequestError, match="brings its own data"):
        import_dataset(store, "digits", str(tmp_path), None, {})
    with pytest.raises(UnknownName, match="did you mean 'passage'"):
        import_dataset(store, "text", str(tmp_path), None, {"passages": 3})


def test_a_digest_changes_with_the_content_alone(store, tmp_path):
    def version(text):
        (tmp_path / "a.txt").write_text(text)
        return import_dataset(store, "text", str(tmp_path / "a.txt"), "t", {}).version

    assert version("abc" * 100) == version("abc" * 100) != version("abd" * 100)
    assert len(manifests.list_datasets(store)) == 2


def test_a_corrupt_or_missing_shard_is_named(store):
    manifest = import_dataset(store, "digits", None, None, {})
    shard = manifest.shards_of("train")[0]
    path = f"datasets/digits/{shard.path}"
    content = bytearray(store.read(path))
    content[len(content) // 2] ^= 1
    store.write(path, bytes(content))
    with pytest.raises(DataError, match=r"train-00000.arrow of digits@\w+ is corrupt"):
        shards.verify(store, manifest, shard)
    store.delete(path.rpartition("/")[0])
    with pytest.raises(DataError, match="is missing"):
        shards.verify(store, manifest, shard)


def test_an_altered_manifest_is_refused(store):
    manifest = import_dataset(store, "digits", None, None, {})
    path = f"datasets/digits/{manifest.version}.json"
    store.write(
        path,
        store.read(path).replace(b'"height":8', b'"height":9').replace(b'"height": 8', b'"height": 9'),
    )
    with pytest.raises(DataError, match="was altered"):
        manifests.load(store, "digits")


def test_a_pickled_column_is_refused_from_the_schema(store, tmp_path):
    import ray.data  # noqa: F401  # once it is imported, plain pyarrow would unpickle such a column

    manifest = import_dataset(store, "digits", None, None, {})
    shard = manifest.shards_of("test")[0]

    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "mark"), "w")

    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    field = pa.field("image", pa.large_binary(), metadata=metadata)
    table = pa.table([pa.array([pickle.dumps(Payload())], pa.large_binary())], pa.schema([field]))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    store.write(f"datasets/digits/{shard.path}", sink.getvalue())
    with pytest.raises(DataError, match="holds pickled objects"):
        shards.read_chunks(store, manifest, shard, [0])
    assert not (tmp_path / "mark").exists()


def test_arrow_reads_the_shards_without_our_code(store):
    import pyarrow.dataset as ds

    manifest = import_dataset(store, "digits", None, None, {})
    paths = [store.path(f"datasets/digits/{shard.path}") for shard in manifest.shards]
    assert ds.dataset(paths, format="arrow").count_rows() == 1797
