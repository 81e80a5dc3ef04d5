"""Bad input: quarantined and counted, or one clear error with the file, the place and the remedy."""

import io
import tarfile
import zipfile
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image as pil
from published import SOURCES, add

from genloom.errors import DataError, RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store

SET_ASIDE = {"bad_rows": "quarantine", "bad_share": 0.5, "split": {"test": 0}}


@pytest.fixture
def store(tmp_path):
    return Store((tmp_path / "store").as_uri())


def png(size=8, mode="RGB"):
    data = io.BytesIO()
    pil.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(
        data, "png"
    )
    return data.getvalue()


def quarantined(store, manifest):
    table = pq.read_table(store.path(f"datasets/{manifest.name}/{manifest.quarantine.path}"))
    return {row["key"]: (row["rule"], row["detail"], row["content"]) for row in table.to_pylist()}


def nothing_is_left(store):
    assert manifests.list_datasets(store) == []
    for name in store.names("datasets"):
        assert [n for n in store.names(f"datasets/{name}") if not n.startswith("unpacked")] == []


@pytest.mark.parametrize("name", ["cifar10", "ljspeech", "ratings", "text8"])
@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"no archive at all"])
def test_a_damaged_archive_is_one_error_and_leaves_nothing(store, tmp_path, name, damage):
    path = SOURCES[name][0](tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"{path.name}.* is not a whole (tar|zip) archive: .*download it again"
    ):
        import_dataset(store, name, str(path), None, {})
    nothing_is_left(store)


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:\\evil.png"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_leaves_its_folder_is_refused(store, tmp_path, name, kind):
    path = tmp_path / f"photos.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            add(archive, name, png())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), png())
    with pytest.raises(DataError, match="leads out of its folder"):
        import_dataset(store, "imagefolder", str(path), None, {})
    nothing_is_left(store)
    assert not (tmp_path / "evil.png").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2"])
def test_a_decompression_bomb_is_refused_before_it_unpacks(store, tmp_path, kind, monkeypatch):
    from genloom_platform.data import archives

    monkeypatch.setattr(archives, "BOMB_BYTES", 1 << 20)
    path = tmp_path / f"bomb.{kind}"
    zeros = b"\0" * (4 << 20)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros.txt", zeros)
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as archive:
            add(archive, "zeros.txt", zeros)
    with pytest.raises(DataError, match=r"is a decompression bomb; unpack it yourself"):
        import_dataset(store, "text", str(path), None, {})
    nothing_is_left(store)


def test_pictures_that_cannot_be_read_are_set_aside_with_their_bytes(store, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    bad = {"empty.png": b"", "text.jpg": b"not a picture", "cut.png": png(40)[:-900]}
    header = bytearray(png())
    header[16:24] = (200_000).to_bytes(4, "big") * 2  # claims 40 billion pixels
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    bad["bomb.png"] = bytes(header)
    for number in range(6):
        (photos / f"{number}.png").write_bytes(png())
    for name, content in bad.items():
        (photos / name).write_bytes(content)
    with pytest.raises(DataError, match=r"photos: \w+\.(png|jpg): image: .*bad_rows=quarantine"):
        import_dataset(store, "imagefolder", str(photos), None, {})
    nothing_is_left(store)
    manifest = import_dataset(store, "imagefolder", str(photos), None, SET_ASIDE)
    assert manifest.splits == {"train": 6}
    assert manifest.quarantine.rules == {"unreadable": 4}
    found = quarantined(store, manifest)
    assert {key: content for key, (_, _, content) in found.items()} == bad
    assert "the file is empty" in found["empty.png"][1]
    assert "64 million pixels" in found["bomb.png"][1]


def test_more_bad_rows_than_allowed_are_an_error_with_numbers(store, tmp_path):
    (tmp_path / "p").mkdir()
    for number in range(8):
        (tmp_path / "p" / f"{number}.png").write_bytes(png() if number < 5 else b"")
    with pytest.raises(
        DataError, match=r"3 of 8 rows cannot be read, more than bad_share = 0.25 allows.*5.png"
    ):
        import_dataset(
            store, "imagefolder", str(tmp_path / "p"), None, {**SET_ASIDE, "bad_share": 0.25}
        )
    nothing_is_left(store)


def test_a_sound_of_no_numbers_is_set_aside(store, tmp_path):
    (tmp_path / "s").mkdir()
    wave = np.sin(np.arange(8000) / 10)
    soundfile.write(tmp_path / "s" / "good.wav", wave, 8000)
    soundfile.write(tmp_path / "s" / "nan.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"nan\.wav"):
        import_dataset(store, "audiofolder", str(tmp_path / "s"), None, {})
    manifest = import_dataset(store, "audiofolder", str(tmp_path / "s"), None, SET_ASIDE)
    assert list(quarantined(store, manifest)) == ["nan.wav"]


@pytest.mark.parametrize(("content", "message"), [
    (b"abc\xff\xfe", "not UTF-8 text: byte 0xff at offset 3"),
    (b"", "is empty"),
])  # fmt: skip
def test_what_is_no_text_is_told_with_its_place(store, tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_dataset(store, "text", str(tmp_path / "a.txt"), None, {})
    nothing_is_left(store)


def test_ratings_out_of_range_are_set_aside_with_their_lines(store, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,2,4.0,10\n1,3,9.5,11\n2,3,4.5,12\n2,x,4.5,12\n")
    manifest = import_dataset(store, "ratings", str(path), None, SET_ASIDE)
    assert manifest.splits == {"train": 2}
    found = quarantined(store, manifest)
    assert sorted(content for _, _, content in found.values()) == [b"1,3,9.5,11", b"2,x,4.5,12"]
    assert any("9.5" in detail for _, detail, _ in found.values())


def test_files_of_mixed_schemas_are_one_error_that_names_both(store, tmp_path):
    import pandas as pd

    (tmp_path / "t").mkdir()
    pd.DataFrame({"text": ["a"], "score": [1.0]}).to_parquet(tmp_path / "t" / "1.parquet")
    pd.DataFrame({"text": ["a"], "points": ["x"]}).to_parquet(tmp_path / "t" / "2.parquet")
    with pytest.raises(DataError) as error:
        import_dataset(store, "parquet", str(tmp_path / "t"), None, {})
    for words in ("1.parquet", "2.parquet", "score", "points"):
        assert words in str(error.value)
    nothing_is_left(store)


def test_a_file_that_is_not_what_its_name_says_is_named(store, tmp_path):
    for name in ("parquet", "arrow"):
        path = tmp_path / f"table.{name}"
        path.write_bytes(b"text,score\na,1\n" * 40)
        with pytest.raises(DataError, match=f"table.{name}"):
            import_dataset(store, name, str(path), None, {})
    nothing_is_left(store)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_pickled_column_is_never_unpickled(store, tmp_path, kind):
    import pickle

    import pyarrow as pa
    import ray.data  # noqa: F401  # once it is imported, plain pyarrow would unpickle such a column

    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "mark"), "w")

    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    field = pa.field("image", pa.large_binary(), metadata=metadata)
    table = pa.table([pa.array([pickle.dumps(Payload())], pa.large_binary())], pa.schema([field]))
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(DataError, match="holds pickled objects"):
        import_dataset(store, kind, str(path), None, {})
    manifest = import_dataset(store, "digits", None, None, {})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    store.write(manifest.path_of(manifest.shards[0]), sink.getvalue())
    with pytest.raises(DataError, match="holds pickled objects"):
        shards.read_chunks(store, manifest, manifest.shards[0], [0])
    assert not (tmp_path / "mark").exists()


def test_a_flipped_bit_is_an_error_where_it_is_read_and_where_it_is_verified(store, monkeypatch):
    manifest = import_dataset(store, "digits", None, None, {})
    shard = manifest.shards_of("train")[0]
    path = manifest.path_of(shard)
    content = bytearray(store.read(path))
    content[len(content) // 2] ^= 1
    store.write(path, bytes(content))
    with pytest.raises(DataError, match=r"train-00000.parquet of digits@\w+ is corrupt"):
        shards.verify(store, manifest, shard)
    with pytest.raises(
        DataError, match=r"train-00000.parquet of digits@\w+ (is corrupt|cannot be read)"
    ):
        shards.read_chunks(store, manifest, shard, range(len(shard.chunks)))
    with pytest.raises(DataError, match="is corrupt"):
        shards.require(store, manifest)
    monkeypatch.setattr(shards, "SMALL_BYTES", 0)
    shards.require(store, manifest)
    store.write(path, bytes(content[:-1]))
    with pytest.raises(DataError, match="bytes and not"):
        shards.require(store, manifest)
    store.delete(path.rpartition("/")[0])
    with pytest.raises(DataError, match="is missing"):
        shards.require(store, manifest)
    with pytest.raises(DataError, match="is missing"):
        shards.read_chunks(store, manifest, shard, [0])


def test_a_source_without_a_row_to_train_on_is_told(store, tmp_path):
    (tmp_path / "e").mkdir()
    with pytest.raises((DataError, RequestError), match="holds no"):
        import_dataset(store, "imagefolder", str(tmp_path / "e"), None, {})
    (tmp_path / "e" / "1.png").write_bytes(png())
    with pytest.raises(DataError, match=r"no row is left; 1 too small"):
        import_dataset(
            store, "imagefolder", str(tmp_path / "e"), None, {"clean": {"images": {"min_side": 99}}}
        )
    nothing_is_left(store)
