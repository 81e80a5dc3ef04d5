"""Formats of pictures other than CIFAR, from files in the layout as published, made here."""

import gzip
import io
import struct

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError
from reading import files_of, good_rows, rows_of, written
from sklearn.datasets import load_digits

from genloom import BadRow, Image
from genloom.errors import DataError
from genloom.registry import load_format

RNG = np.random.default_rng(0)


def test_digits_are_those_of_scikit_learn():
    digits, expected = load_format("digits")(), load_digits()
    assert digits.needs_source is False
    rows = [row for unit in digits.units(None) for row in digits.rows(None, unit)]
    assert len(rows) == 1797
    assert {row.split for row in rows} == {None}
    for row, pixels, label in zip(rows, expected.images, expected.target, strict=True):
        assert (row.values["image"].array[:, :, 0] == np.rint(pixels * 255 / 16)).all()
        assert row.values["label"] == label
    with pytest.raises(ValidationError):
        load_format("digits")(test=0.2)


GREY = RNG.integers(0, 256, (2, 30, 7, 5), np.uint8)
DIGITS = RNG.integers(0, 10, (2, 30))


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def mnist(separator="-", packed=False):
    contents = {}
    for name, pictures, labels in zip(("train", "t10k"), GREY, DIGITS, strict=True):
        contents[f"{name}-images{separator}idx3-ubyte"] = idx(pictures)
        contents[f"{name}-labels{separator}idx1-ubyte"] = idx(labels)
    return {f"{n}.gz": gzip.compress(c) for n, c in contents.items()} if packed else contents


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_mnist_comes_in_pixel_by_pixel(tmp_path, separator, packed):
    files, reader = written(tmp_path / "raw", mnist(separator, packed)), load_format("mnist")()
    columns = reader.columns(files)
    assert columns["image"].model_dump() == {"kind": "image", "height": 7, "width": 5, "channels": 1}
    assert columns["label"].names == tuple("0123456789")
    rows = good_rows(reader, files)
    assert [row.split for row in rows] == ["train"] * 30 + ["test"] * 30
    for row, pixels, label in zip(rows, GREY.reshape(-1, 7, 5), DIGITS.ravel(), strict=True):
        assert row.values == {"image": Image(pixels), "label": label}


def test_mnist_is_read_once_where_files_lie_beside_their_packed_form(tmp_path):
    files = written(tmp_path / "raw", mnist() | mnist(packed=True))
    assert len(good_rows(load_format("mnist")(), files)) == 60
    written(tmp_path / "other", mnist())
    with pytest.raises(DataError, match="holds IDX files in other, raw; give one"):
        load_format("mnist")().columns(files_of(tmp_path))


def test_names_of_classes_can_be_given(tmp_path):
    files = written(tmp_path, mnist())
    named = load_format("mnist")(names=tuple("abcdefghij"))
    assert named.columns(files)["label"].names == tuple("abcdefghij")
    with pytest.raises(DataError, match=r"holds the label \d at \d+, but names has 2 classes, 0 to 1"):
        rows_of(load_format("mnist")(names=("a", "b")), files)


TRAIN, CLASSES = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
ENDLESS = bytes([0, 0, 8, 3]) + struct.pack(">3I", 30, 2**31, 2**31)


@pytest.mark.parametrize(("contents", "message"), [
    ({TRAIN: idx(GREY[0])[:-1]}, "cut short: it ends at item 29 of the 30"),
    ({TRAIN: idx(GREY[0]) + b"x"}, "goes on after the 30 items"),
    ({CLASSES: idx(DIGITS[0])[:-1]}, "cut short: it ends at item 29"),
    ({CLASSES: idx(DIGITS[0]) + b"x"}, "goes on after"),
    ({TRAIN: b"<html>not found</html>"}, "begins with 3c68746d, not with 00000803"),
    ({TRAIN: idx(DIGITS[0])}, "begins with 00000801, not with 00000803"),
    ({TRAIN: b""}, "begins with nothing"),
    ({TRAIN: idx(GREY[0])[:9]}, "cut short in its header"),
    ({TRAIN: ENDLESS}, "claims pictures of 2147483648 × 2147483648 pixels"),
    ({TRAIN: idx(GREY[0][:, :, :0])}, "claims pictures of 7 × 0 pixels"),
    ({TRAIN: idx(GREY[0][:9])}, "claims 9 pictures and .* 30 labels"),
    ({TRAIN: idx(GREY[0][:, :4])}, "pictures of several sizes"),
    ({"t10k-labels-idx1-ubyte": None}, "t10k-images-idx3-ubyte stands alone; its labels are missing"),
])  # fmt: skip
def test_a_wrong_mnist_is_an_error_that_says_why(tmp_path, contents, message):
    contents = {name: content for name, content in (mnist() | contents).items() if content is not None}
    files, reader = written(tmp_path, contents), load_format("mnist")()
    with pytest.raises(DataError, match=message):
        reader.columns(files), rows_of(reader, files)


@pytest.mark.parametrize(("content", "message"), [
    (gzip.compress(idx(GREY[0]))[:-30], "is cut short"),
    (b"<html>not found</html>", "cannot be unpacked"),
])  # fmt: skip
def test_a_damaged_packed_mnist_is_an_error(tmp_path, content, message):
    files = written(tmp_path, mnist(packed=True) | {f"{TRAIN}.gz": content})
    with pytest.raises(DataError, match=f"{TRAIN}.gz {message}"):
        rows_of(load_format("mnist")(), files)


def test_a_source_without_idx_files_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        load_format("mnist")().columns(written(tmp_path, {"a.txt": b"x"}))


def encoded(kind, value):
    """A picture of one colour, as a program would write it."""
    sink = io.BytesIO()
    PIL.Image.new("RGB", (4, 3), (value, 0, 0)).save(sink, kind)
    return sink.getvalue()


CATS = {"cats/1.jpg": encoded("jpeg", 1), "cats/2.JPEG": encoded("jpeg", 2)}
DOGS = {"dogs/deep/1.Png": encoded("png", 3), "dogs/2.webp": encoded("webp", 4)}
ANIMALS = CATS | DOGS | {"dogs/notes.txt": b"x", "dogs/labels.csv": b"x"}


def below(folder, contents):
    return {f"{folder}/{name}": content for name, content in contents.items()}


@pytest.mark.parametrize("top", ["", "photos", "a/b"])
def test_folders_are_classes_and_files_are_kept_byte_for_byte(tmp_path, top):
    contents = below(top, ANIMALS) if top else ANIMALS
    files, reader = written(tmp_path, contents), load_format("imagefolder")()
    assert reader.columns(files)["label"].names == ("cats", "dogs")
    rows = good_rows(reader, files)
    assert {row.key for row in rows} == {name for name in contents if not name.endswith(("txt", "csv"))}
    for row in rows:
        assert row.values == {"image": contents[row.key], "label": int("dogs" in row.key)}
        assert row.split is None
        assert Image.from_bytes(row.values["image"]).array.shape == (3, 4, 3)


@pytest.mark.parametrize(("folder", "split"), [
    ("val", "validation"), ("valid", "validation"), ("validation", "validation"), ("TEST", "test"),
])  # fmt: skip
def test_folders_above_the_classes_are_splits(tmp_path, folder, split):
    contents = below("top/Train", ANIMALS) | below(f"top/{folder}", CATS)
    files, reader = written(tmp_path, contents), load_format("imagefolder")()
    assert reader.columns(files)["label"].names == ("cats", "dogs")
    for row in good_rows(reader, files):
        assert row.split == ("train" if "Train" in row.key else split)
        assert row.values["label"] == int("dogs" in row.key)


@pytest.mark.parametrize(("contents", "splits"), [
    ({"1.jpg": b"a", "2.jpg": b"b"}, {None}),
    ({"photos/1.jpg": b"a", "photos/2.jpg": b"b"}, {None}),
    ({"1.jpg": b"a"}, {None}),
    ({"train/1.jpg": b"a", "test/2.jpg": b"b"}, {"train", "test"}),
    ({"train/1.jpg": b"a"}, {"train"}),
])  # fmt: skip
def test_pictures_in_no_class_folder_have_no_label(tmp_path, contents, splits):
    files, reader = written(tmp_path, contents), load_format("imagefolder")()
    assert list(reader.columns(files)) == ["image"]
    rows = good_rows(reader, files)
    assert {row.key: row.values for row in rows} == {n: {"image": c} for n, c in contents.items()}
    assert {row.split for row in rows} == splits


def test_a_class_may_be_called_train(tmp_path):
    contents = {"train/1.jpg": b"a", "car/1.jpg": b"b", "bus/1.jpg": b"c"}
    files, reader = written(tmp_path, contents), load_format("imagefolder")()
    assert reader.columns(files)["label"].names == ("bus", "car", "train")
    assert {row.split for row in good_rows(reader, files)} == {None}


def test_a_picture_outside_of_the_folders_is_bad_and_an_empty_one_is_left_to_the_platform(tmp_path):
    contents = ANIMALS | {"stray.jpg": b"stray", "cats/zero.png": b""}
    rows = {row.key: row for row in rows_of(load_format("imagefolder")(), written(tmp_path, contents))}
    assert rows["stray.jpg"] == BadRow("stray.jpg", "the file lies in no class folder", b"stray")
    assert rows["cats/zero.png"].values == {"image": b"", "label": 0}
    assert len(rows) == 6


def test_a_picture_of_a_kind_that_is_not_kept_is_bad_with_the_remedy(tmp_path):
    files = written(tmp_path, ANIMALS | {"dogs/3.gif": b"moving"})
    (bad,) = [row for row in rows_of(load_format("imagefolder")(), files) if isinstance(row, BadRow)]
    assert (bad.key, bad.content) == ("dogs/3.gif", b"moving")
    assert "convert it to PNG, JPEG or WebP" in bad.reason


def test_a_picture_outside_of_the_splits_is_bad(tmp_path):
    contents = below("train", ANIMALS) | below("test", ANIMALS) | {"stray.jpg": b"stray"}
    bad = [
        row
        for row in rows_of(load_format("imagefolder")(), written(tmp_path, contents))
        if row.key[0] == "s"
    ]
    assert bad == [
        BadRow("stray.jpg", "the file lies outside of the folders that name splits", b"stray")
    ]


@pytest.mark.parametrize(("contents", "message"), [
    ({"a.gif": b"x", "b.gif": b"x", "c": b"x"}, r"\.webp\) but 2 \.gif, 1 without suffix files"),
    ({}, "holds no picture .* but no file at all"),
    (below("train", CATS) | below("test", CATS) | below("extra", CATS), "holds extra beside folders"),
])  # fmt: skip
def test_what_is_no_folder_of_pictures_is_told(tmp_path, contents, message):
    with pytest.raises(DataError, match=message):
        load_format("imagefolder")().columns(written(tmp_path, contents))


def test_a_hundred_thousand_files_are_read_in_units():
    class Many:
        url = "many"
        sizes = {f"top/train/class {n % 1000:04}/{n:06}.jpg": 3 for n in range(100_000)}  # noqa: RUF012

        def open(self, name):
            return io.BytesIO(b"abc")

    many, reader = Many(), load_format("imagefolder")()
    assert len(reader.columns(many)["label"].names) == 1000
    units = reader.units(many)
    assert [len(unit.files) for unit in units] == [2000] * 50
    last = list(reader.rows(many, units[-1]))[-1]
    assert (last.key, last.split) == ("top/train/class 0999/099999.jpg", "train")
    assert last.values == {"image": b"abc", "label": 999}
