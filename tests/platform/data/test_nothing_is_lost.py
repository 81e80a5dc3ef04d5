"""What once went wrong: rows that vanished, leaked into another split, or were mistaken for others."""

import csv
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image as pil
from published import add

from genloom import Image
from genloom.errors import DataError, RequestError
from genloom_platform.data import derive, encoding, shards
from genloom_platform.data import manifest as manifests
from genloom_platform.data.export import export
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store

ALL = {"split": {"test": 0}}


@pytest.fixture
def store(tmp_path):
    return Store((tmp_path / "store").as_uri())


@pytest.fixture
def cats(store, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        picture = Image(rng.integers(0, 256, (8, 8, 3), np.uint8))
        picture.save(tmp_path / "cats" / "ab"[number % 2] / f"{number}.png")
    import_dataset(store, "imagefolder", str(tmp_path / "cats"), "cats", {"split": {"test": 0.2}})
    return tmp_path / "cats"


def keys(store, manifest):
    found = []
    for shard in manifest.shards:
        table = shards.read_chunks(store, manifest, shard, range(len(shard.chunks)), [encoding.KEY])
        found += [(shard.split, key) for key in table.column(0).to_pylist()]
    return found


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest(store, tmp_path):
    lines = [f"{n},row {n}" for n in range(1000)]
    lines[500] = '500,"row 500'
    (tmp_path / "t.csv").write_text("\n".join(["id,text", *lines]) + "\n")
    with pytest.raises(DataError, match=r"quote that opens in line 502 is never closed"):
        import_dataset(
            store, "csv", str(tmp_path / "t.csv"), "t", {"bad_rows": "quarantine", "bad_share": 1}
        )


def test_copies_of_copies_have_keys_of_their_own(store, cats):
    settings = {"augment": {"images": {"shift": 0.3, "noise": 0.1}}}
    derive.clean(store, "cats", "once", settings)
    twice = derive.clean(store, "once", "twice", settings)
    found = keys(store, twice)
    assert len(set(found)) == len(found) == sum(twice.splits.values())
    unique = derive.clean(store, "twice", "unique", {"clean": {"exact_duplicates": True}})
    assert sum(unique.splits.values()) + (unique.quarantine.rows if unique.quarantine else 0) == len(
        found
    )


def test_two_rows_with_one_key_are_an_error(store, tmp_path, monkeypatch):
    from genloom_platform.data.formats.text import TextFiles

    real = TextFiles.rows
    monkeypatch.setattr(
        TextFiles, "rows", lambda *given: (row for each in real(*given) for row in (each, each))
    )
    (tmp_path / "t.txt").write_text("text " * 100)
    with pytest.raises(DataError, match="have the key of another row"):
        import_dataset(store, "text", str(tmp_path / "t.txt"), "t", {})


def test_copies_go_with_an_original_that_is_a_duplicate(store, tmp_path):
    rng = np.random.default_rng(0)
    picture = Image(rng.integers(0, 256, (8, 8, 3), np.uint8))
    picture.save(tmp_path / "p" / "test" / "x" / "a.png")
    picture.save(tmp_path / "p" / "train" / "x" / "b.png")
    Image(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "p" / "train" / "x" / "c.png")
    settings = {"clean": {"exact_duplicates": True}, "augment": {"images": {"flip": 1}}}
    manifest = import_dataset(store, "imagefolder", str(tmp_path / "p"), "p", settings)
    assert sorted(key for split, key in keys(store, manifest) if split == "train") == [
        "train/x/c.png", "train/x/c.png#augmented-1",
    ]  # fmt: skip
    assert manifest.quarantine.rules == {"duplicate": 1, "copy of a duplicate": 1}


def test_a_new_split_keeps_copies_with_their_originals(store, cats):
    derive.clean(store, "cats", "wide", {"augment": {"copies": 3, "images": {"noise": 0.1}}})
    again = derive.clean(store, "wide", "again", {"split": {"test": 0.4}})
    found = keys(store, again)
    assert not [key for split, key in found if split == "test" and "#" in key]
    train = {key for split, key in found if split == "train"}
    assert {key.partition("#")[0] for key in train if "#" in key} <= train


def test_columns_with_names_of_ours_are_refused(store, tmp_path):
    (tmp_path / "t.csv").write_text("_split,text\na,b\n")
    with pytest.raises(RequestError, match=r"columns._split=skip"):
        import_dataset(store, "csv", str(tmp_path / "t.csv"), "t", {})
    import_dataset(store, "csv", str(tmp_path / "t.csv"), "t", {**ALL, "columns": {"_split": "skip"}})


def test_sixteen_bit_pictures_keep_their_shades(store):
    data = io.BytesIO()
    pil.fromarray(np.full((4, 4), 0x8080, np.uint16)).save(data, "png")
    assert (Image.from_bytes(data.getvalue()).array == 0x80).all()


def test_an_import_repairs_a_damaged_dataset_of_the_same_content(store, cats):
    first = manifests.load(store, "cats")
    path = first.path_of(first.shards[0])
    content = bytearray(store.read(path))
    content[100] ^= 1
    store.write(path, bytes(content))
    (cats / "a" / "0.png").touch()
    again = import_dataset(store, "imagefolder", str(cats), "cats", {"split": {"test": 0.2}})
    assert again.digest == first.digest
    for shard in again.shards:
        shards.verify(store, again, shard)


def test_a_damaged_manifest_stands_in_nobodys_way(store, cats):
    damaged = manifests.load(store, "cats")
    store.write(f"datasets/cats/{damaged.version}.json", b'{"name": "ca')
    import_dataset(store, "digits", None, None, {})
    assert [each.name for each in manifests.list_datasets(store)] == ["digits"]
    again = import_dataset(store, "imagefolder", str(cats), "cats", {"split": {"test": 0.2}})
    assert again.digest == damaged.digest
    assert manifests.load(store, "cats") == again


def test_a_hard_link_in_a_tar_is_the_file_that_it_links_to(store, tmp_path):
    data = io.BytesIO()
    pil.fromarray(np.zeros((8, 8, 3), np.uint8)).save(data, "png")
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        add(archive, "p/1.png", data.getvalue())
        link = tarfile.TarInfo("p/2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "p/1.png"
        archive.addfile(link)
    manifest = import_dataset(store, "imagefolder", str(tmp_path / "p.tar"), "p", ALL)
    assert manifest.splits == {"train": 2}


def test_a_zips_directory_is_read_once_for_all_members(store, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for number in range(20):
            data = io.BytesIO()
            pil.fromarray(np.full((8, 8, 3), number, np.uint8)).save(data, "png")
            archive.writestr(f"{number}.png", data.getvalue())
    opened = []
    real = zipfile.ZipFile.__init__
    monkeypatch.setattr(
        zipfile.ZipFile, "__init__", lambda *a, **k: (opened.append(1), real(*a, **k))[1]
    )
    manifest = import_dataset(store, "imagefolder", str(tmp_path / "p.zip"), "p", ALL)
    assert manifest.splits == {"train": 20}
    assert len(opened) < 10


@pytest.mark.parametrize("settings", [
    {"clean": {"audio": {"min_s": 1}}},
    {"augment": {"audio": {"gain_db": 3}}},
    {"augment": {"copies": 2}},
    {"format": "csv", "seed": 1},
])  # fmt: skip
def test_what_would_change_nothing_is_refused(store, cats, settings):
    with pytest.raises(RequestError):
        derive.clean(store, "cats", "x", settings)


@pytest.mark.parametrize(("content", "message"), [
    ("key,mood\nnowhere.png,sad\n", "names 1 rows that cats@.* does not have"),
    ("key,mood\n", "names no row"),
    ("key,mood\na/0.png,sad,more\n", "more fields than the header"),
])  # fmt: skip
def test_a_table_of_labels_that_does_not_fit_is_told(store, cats, tmp_path, content, message):
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(RequestError, match=message):
        derive.clean(store, "cats", "x", {"labels": {"file": str(tmp_path / "l.csv")}})


def test_a_table_from_a_spreadsheet_is_read(store, cats, tmp_path):
    rows = "".join(f"{'ab'[n % 2]}/{n}.png,{n}.0\n" for n in range(30))
    (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbfkey,age\n" + rows.encode())
    manifest = derive.clean(store, "cats", "x", {"labels": {"file": str(tmp_path / "l.csv")}})
    assert manifest.columns["age"].integer
    assert manifest.columns["age"].maximum == 29


def test_classes_that_are_numbers_are_in_the_order_of_numbers(store, tmp_path):
    (tmp_path / "t.csv").write_text("label\n" + "\n".join(str(n) for n in range(12)))
    settings = {**ALL, "columns": {"label": "class"}}
    manifest = import_dataset(store, "csv", str(tmp_path / "t.csv"), "t", settings)
    assert manifest.columns["label"].names == tuple(str(n) for n in range(12))


def test_an_exported_folder_comes_back_with_its_classes_and_ratings_with_their_ids(
    store, cats, tmp_path
):
    export(store, manifests.load(store, "cats"), tmp_path / "out", "folder")
    again = import_dataset(store, "imagefolder", str(tmp_path / "out"), "again", {})
    assert again.columns == manifests.load(store, "cats").columns
    assert again.splits == manifests.load(store, "cats").splits
    lines = ["userId,movieId,rating,timestamp", "7,100,3.0,1", "9,200,4.0,2"]
    (tmp_path / "ratings.csv").write_text("\n".join(lines))
    ratings = import_dataset(store, "ratings", str(tmp_path / "ratings.csv"), "r", ALL)
    export(store, ratings, tmp_path / "ratings", "folder")
    with (tmp_path / "ratings" / "train" / "metadata.csv").open() as file:
        assert {(row["user"], row["item"]) for row in csv.DictReader(file)} == {
            ("7", "100"),
            ("9", "200"),
        }


def test_a_cleaning_that_changes_nothing_is_the_same_version(store, cats):
    before = manifests.load(store, "cats")
    assert (
        derive.clean(store, "cats", "same", {"clean": {"images": {"min_side": 1}}}).version
        == before.version
    )
