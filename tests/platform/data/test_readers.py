"""What others read without our code: the shards, and what is exported."""

import csv

import pytest
from published import SOURCES

from genloom.errors import RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.data.export import export
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    store = Store((folder / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    import_dataset(store, "ljspeech", str(SOURCES["ljspeech"][0](folder)), None, {"split": {"test": 0}})
    return store


def paths(store, name, split):
    manifest = manifests.load(store, name)
    return [store.path(manifest.path_of(shard)) for shard in manifest.shards_of(split)]


def test_pyarrow_pandas_duckdb_and_datasets_read_the_shards(store):
    import datasets
    import duckdb
    import pandas as pd
    import pyarrow.dataset as ds

    files = paths(store, "digits", "train")
    rows = manifests.load(store, "digits").splits["train"]
    table = ds.dataset(files).to_table()
    assert table.num_rows == rows
    labels = sorted(table.column("label").to_pylist())
    assert sorted(pd.read_parquet(files[0])["label"].tolist()) == labels
    counted = (
        duckdb.sql(f"select count(*), sum(label) from read_parquet({files})").limit(1).fetchall()[0]
    )
    assert counted == (rows, sum(labels))
    loaded = datasets.Dataset.from_parquet(files)
    assert sorted(loaded["label"]) == labels
    assert loaded[0]["image"][:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["digits", "ljspeech"])
def test_an_exported_folder_has_every_file_and_a_table(store, tmp_path, name):
    manifest = manifests.load(store, name)
    export(store, manifest, tmp_path / "out", "folder")
    for split, rows in manifest.splits.items():
        with (tmp_path / "out" / split / "metadata.csv").open() as file:
            table = list(csv.DictReader(file))
        assert len(table) == rows
        media = next(iter(manifest.columns))
        assert all((tmp_path / "out" / split / row[media]).stat().st_size for row in table)
        if name == "digits":
            assert {row["label"] for row in table} == set("0123456789")


def test_exported_parquet_comes_back_the_same(store, tmp_path):
    manifest = manifests.load(store, "digits")
    export(store, manifest, tmp_path / "out", "parquet")
    (tmp_path / "out" / "dataset.json").unlink()
    settings = {"columns": {"image": "image", "label": "class", "key": "skip"}, "split": {"test": 0}}
    again = import_dataset(store, "parquet", str(tmp_path / "out"), "again", settings)
    assert again.splits == {"train": 1797}
    assert again.columns == manifest.columns
    with pytest.raises(RequestError, match="not empty; name a new folder"):
        export(store, manifest, tmp_path / "out", "parquet")
