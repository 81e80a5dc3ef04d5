"""Import: every format from a disk and from S3, splits, versions, immutability, interruption."""

import os
from collections import Counter
from pathlib import Path

import pytest
from published import SOURCES

from genloom import registry
from genloom.errors import DataError, InvalidConfig, RequestError, StoreError, UnknownName
from genloom_platform.data import encoding, parts, shards
from genloom_platform.data import manifest as manifests
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store

NO_TEST = {"split": {"test": 0}}


@pytest.fixture
def store(tmp_path):
    return Store((tmp_path / "store").as_uri())


def rows_of(store, manifest, split=None):
    """Key → values, of a split or of all."""
    found = {}
    for shard in manifest.shards:
        if split in (None, shard.split):
            table = shards.read_chunks(
                store, manifest, shard, range(len(shard.chunks)), [*manifest.columns, encoding.KEY]
            )
            keys = table.column(encoding.KEY).to_pylist()
            found |= dict(zip(keys, encoding.decode(manifest.columns, table), strict=True))
    return found


def upload(store, source):
    """Copy a file or a folder into a store; returns its URL."""
    source = Path(source)
    for file in [source] if source.is_file() else [f for f in source.rglob("*") if f.is_file()]:
        store.upload(file, str(file.relative_to(source.parent)))
    return f"{store.url}/{source.name}"


@pytest.mark.parametrize("name", SOURCES)
def test_every_format_comes_in_alike_from_a_disk_and_from_s3(name, tmp_path, store, s3):
    make, splits, kinds = SOURCES[name]
    path = make(tmp_path)
    settings = NO_TEST if isinstance(splits, int) else {}
    local = import_dataset(store, name, str(path), None, settings)
    bucket = Store(f"{s3}/sources-{name}")
    remote = import_dataset(Store(f"{s3}/store-{name}"), name, upload(bucket, path), None, settings)
    assert remote.digest == local.digest
    assert {column: found.kind for column, found in local.columns.items()} == kinds
    if splits is not None:
        assert local.splits == ({"train": splits} if isinstance(splits, int) else splits)
    rows = rows_of(store, local)
    assert len(rows) == sum(local.splits.values())
    assert rows == rows_of(Store(f"{s3}/store-{name}"), remote)


def test_every_built_in_format_is_tried():
    assert set(registry.available(registry.FORMATS)) == {*SOURCES, "digits"}


def test_ids_are_dense_and_their_originals_kept(tmp_path, store):
    import pyarrow.parquet as pq

    manifest = import_dataset(store, "ratings", str(SOURCES["ratings"][0](tmp_path)), None, NO_TEST)
    assert (manifest.columns["user"].count, manifest.columns["item"].count) == (3, 4)
    (folder,) = {shard.path.partition("/")[0] for shard in manifest.shards}
    originals = pq.read_table(store.path(f"datasets/ratings/{folder}/ids-user.parquet"))
    assert originals.column(0).to_pylist() == [1, 5, 9]
    assert {row["user"] for row in rows_of(store, manifest).values()} == {0, 1, 2}


def test_splits_by_key_keep_a_user_together(tmp_path, store):
    path = tmp_path / "ratings.csv"
    lines = [f"{user},{item},3.0,1000" for user in range(60) for item in range(5)]
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *lines]))
    settings = {"split": {"test": 0.2, "validation": 0.2, "by": "user"}}
    manifest = import_dataset(store, "ratings", str(path), "r", settings)
    users = {
        split: {row["user"] for row in rows_of(store, manifest, split).values()}
        for split in manifest.splits
    }
    assert set(users) == {"train", "validation", "test"}
    assert sum(len(found) for found in users.values()) == 60
    with pytest.raises(RequestError, match=r"no such column; give one of user, item, rating, time"):
        import_dataset(store, "ratings", str(path), "r2", {"split": {"by": "speaker"}})


def test_statistics_are_those_of_the_rows(store):
    import numpy as np
    from sklearn.datasets import load_digits

    manifest = import_dataset(store, "digits", None, None, NO_TEST)
    pixels = np.rint(load_digits().images * (255 / 16)) / 255
    found = manifest.statistics["train"]
    measure = found["image"].measures["channel 0"]
    assert measure.mean == pytest.approx(pixels.mean(), abs=1e-12)
    assert measure.deviation == pytest.approx(pixels.std(), abs=1e-9)
    assert (measure.minimum, measure.maximum) == (0, 1)
    counts = Counter(load_digits().target.tolist())
    assert found["label"].counts == {str(digit): counts[digit] for digit in range(10)}


def test_the_version_is_a_function_of_the_content(tmp_path, store):
    def version(text, **settings):
        (tmp_path / "a.txt").write_text(text)
        return import_dataset(store, "text", str(tmp_path / "a.txt"), "t", settings).version

    assert version("abc" * 100) == version("abc" * 100) == version("abc" * 100, bad_share=0.5)
    assert version("abd" * 100) != version("abc" * 100)
    assert len(manifests.list_datasets(store)) == 2


def test_the_same_import_finds_what_it_made_and_repairs_what_was_damaged(store):
    first = import_dataset(store, "digits", None, None, {})
    path = first.path_of(first.shards[0])
    whole = store.read(path)
    assert import_dataset(store, "digits", None, None, {}) == first
    store.write(path, whole[:-1])
    assert import_dataset(store, "digits", None, None, {}) == first
    assert store.read(path) == whole


def test_an_interrupted_import_goes_on_where_it_was(tmp_path, store, monkeypatch):
    for number in range(6):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(f"text {number} " * 20)
    import genloom.formats

    monkeypatch.setattr(genloom.formats, "UNIT_FILES", 1)
    units = []
    real = parts.read_unit

    def interrupted(job, number):
        units.append(number)
        if len(units) == 4:
            raise KeyboardInterrupt
        return real(job, number)

    monkeypatch.setattr(parts, "read_unit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_dataset(store, "text", str(tmp_path / "texts"), "t", {})
    assert manifests.list_datasets(store) == []
    with pytest.raises(UnknownName, match="never finished"):
        manifests.load(store, "t")
    records = [
        name
        for folder in store.names("datasets/t")
        for name in store.names(f"datasets/t/{folder}/parts")
    ]
    assert len([name for name in records if name.endswith(".json")]) == 3
    monkeypatch.undo()
    monkeypatch.setattr(genloom.formats, "UNIT_FILES", 1)
    resumed = import_dataset(store, "text", str(tmp_path / "texts"), "t", {})
    assert resumed.digest == import_dataset(store, "text", str(tmp_path / "texts"), "fresh", {}).digest
    left = [
        n
        for f in store.names("datasets/t")
        if f.startswith("import-")
        for n in store.names(f"datasets/t/{f}")
        if not n.endswith(".parquet")
    ]
    assert left == []


def test_a_cluster_reads_what_one_process_reads(tmp_path, store, ray_cluster, monkeypatch):
    import genloom.formats

    monkeypatch.setattr(genloom.formats, "UNIT_FILES", 2)
    path = SOURCES["imagefolder"][0](tmp_path)
    here = import_dataset(store, "imagefolder", str(path), "here", {}, on_cluster=False)
    there = import_dataset(store, "imagefolder", str(path), "there", {}, on_cluster=True)
    assert there.digest == here.digest
    (path / "train" / "cat" / "9.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/cat/9.png: image: the file is empty"):
        import_dataset(store, "imagefolder", str(path), "bad", {}, on_cluster=True)


def test_wrong_requests_name_what_is_known_all_at_once(store, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        import_dataset(store, "digit", None, None, {})
    with pytest.raises(InvalidConfig, match="give its path"):
        import_dataset(store, "text", None, None, {})
    with pytest.raises(RequestError, match="does not exist"):
        import_dataset(store, "text", str(tmp_path / "none"), None, {})
    with pytest.raises(InvalidConfig, match="brings its own data"):
        import_dataset(store, "digits", str(tmp_path), None, {})
    wrong = {
        "passages": 3,
        "split": {"tests": 1},
        "clean": {"images": {"min_side": 0}},
        "bad_rows": "skip",
    }
    with pytest.raises(InvalidConfig, match=r"4 errors") as error:
        import_dataset(store, "text", str(tmp_path), None, wrong)
    for words in (
        "did you mean 'passage'",
        "did you mean 'test'",
        "give 1 or more",
        "'fail' or 'quarantine'",
    ):
        assert words in str(error.value)
    assert store.names("datasets") == []


def test_an_altered_manifest_is_refused(store):
    manifest = import_dataset(store, "digits", None, None, {})
    path = f"datasets/digits/{manifest.version}.json"
    store.write(path, store.read(path).replace(b'"height": 8', b'"height": 9'))
    with pytest.raises(DataError, match="was altered"):
        manifests.load(store, "digits")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_one_clear_error_and_no_dataset(tmp_path):
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small])
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        path = tmp_path / "long.txt"
        path.write_bytes(os.urandom(2 << 20).hex().encode())
        with pytest.raises(StoreError, match=r"cannot write .*No space left on device.*free space"):
            import_dataset(Store(small.as_uri()), "text", str(path), "t", {})
        assert manifests.list_datasets(Store(small.as_uri())) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_source_that_changed_is_read_again(tmp_path, store):
    text = tmp_path / "texts" / "below" / "a.txt"
    text.parent.mkdir(parents=True)
    text.write_text("abc" * 100)
    first = import_dataset(store, "text", str(tmp_path / "texts"), "t", {})
    text.write_text("abd" * 100)  # of the same size, in a folder whose own time stays
    assert import_dataset(store, "text", str(tmp_path / "texts"), "t", {}).version != first.version
    table = tmp_path / "labels.csv"
    table.write_text("key,mark\ndigits/0,a\ndigits/1,b\n")
    settings = {"labels": {"file": str(table), "missing": "drop"}}
    marked = import_dataset(store, "digits", None, "d", settings)
    table.write_text("key,mark\ndigits/0,b\ndigits/1,a\n")
    assert import_dataset(store, "digits", None, "d", settings).version != marked.version
