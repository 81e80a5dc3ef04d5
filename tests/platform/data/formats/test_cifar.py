"""CIFAR-10 and CIFAR-100, from files in the layout as published, made here."""

import pickle
import struct

import numpy as np
import pytest
from reading import files_of, good_rows, rows_of, written

from genloom import Image
from genloom.errors import DataError
from genloom.registry import load_format

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 20, 3, 32, 32), np.uint8)
LABELS = RNG.integers(0, 10, (6, 20))
BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
COARSE = RNG.integers(0, 20, (2, 20))
FINE = RNG.integers(0, 100, (2, 20))
NAMES = {20: [f"coarse_{n:02}" for n in range(20)], 100: [f"fine_{n:02}" for n in range(100)]}


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings as its str, and numpy by its old name."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_str2(self, text):
        content = text if isinstance(text, bytes) else text.encode("ascii")
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    def save_global(self, thing, name=None):
        module = thing.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or thing.__qualname__}\n".encode())
        self.memoize(thing)

    dispatch[bytes] = dispatch[str] = save_str2


def pickled(value, path):
    with path.open("wb") as file:
        Python2Pickler(file, 2).dump(value)
    return path.read_bytes()


def cifar10_binary(root):
    contents = {}
    for name, pictures, labels in zip(BATCHES, PICTURES, LABELS, strict=True):
        records = np.concatenate([labels[:, None].astype(np.uint8), pictures.reshape(20, -1)], 1)
        contents[f"cifar-10-batches-bin/{name}.bin"] = records.tobytes()
    return written(root, {**contents, "cifar-10-batches-bin/readme.html": b"<html>"})


def cifar10_python(root, dump=lambda value, path: pickle.dumps(value, 2)):
    contents = {}
    for name, pictures, labels in zip(BATCHES, PICTURES, LABELS, strict=True):
        batch = {b"data": pictures.reshape(20, -1), b"labels": labels.tolist(), b"batch_label": b"x"}
        contents[f"cifar-10-batches-py/{name}"] = dump(batch, root / "batch")
    (root / "batch").unlink(missing_ok=True)
    return written(root, contents)


def cifar10_python2(root):
    return cifar10_python(root, pickled)


def cifar100_binary(root):
    contents = {
        f"{kind}_label_names.txt": "\n".join([*NAMES[count], ""]).encode()
        for kind, count in (("fine", 100), ("coarse", 20))
    }
    for name, pictures, coarse, fine in zip(("train", "test"), PICTURES[:2], COARSE, FINE, strict=True):
        labels = np.stack([coarse, fine], 1).astype(np.uint8)
        contents[f"{name}.bin"] = np.concatenate([labels, pictures.reshape(20, -1)], 1).tobytes()
    return written(root, {f"cifar-100-binary/{name}": content for name, content in contents.items()})


def cifar100_python(root):
    meta = {
        f"{kind}_label_names".encode(): [name.encode() for name in NAMES[count]]
        for kind, count in (("fine", 100), ("coarse", 20))
    }
    contents = {"meta": pickle.dumps(meta, 2), "file.txt~": b""}
    for name, pictures, coarse, fine in zip(("train", "test"), PICTURES[:2], COARSE, FINE, strict=True):
        labels = {b"coarse_labels": coarse.tolist(), b"fine_labels": fine.tolist()}
        contents[name] = pickle.dumps({b"data": pictures.reshape(20, -1), **labels}, 2)
    return written(root, {f"cifar-100-python/{name}": content for name, content in contents.items()})


@pytest.mark.parametrize("make", [cifar10_binary, cifar10_python, cifar10_python2])
def test_cifar10_comes_in_pixel_by_pixel(tmp_path, make):
    files, cifar = make(tmp_path), load_format("cifar10")()
    assert cifar.columns(files)["label"].names[:2] == ("airplane", "automobile")
    rows = good_rows(cifar, files)
    assert [row.split for row in rows] == ["train"] * 100 + ["test"] * 20
    assert [rows[0].key, rows[119].key] == ["data_batch_1:0", "test_batch:19"]
    for row, pixels, label in zip(rows, PICTURES.reshape(-1, 3, 32, 32), LABELS.ravel(), strict=True):
        assert row.values == {"image": Image(pixels.transpose(1, 2, 0)), "label": label}


@pytest.mark.parametrize("make", [cifar100_binary, cifar100_python])
def test_cifar100_comes_in_with_both_labels(tmp_path, make):
    files, cifar = make(tmp_path), load_format("cifar100")()
    columns = cifar.columns(files)
    assert list(columns["label"].names) == NAMES[100]
    assert list(columns["coarse"].names) == NAMES[20]
    rows = {row.key: row for row in good_rows(cifar, files)}
    assert len(rows) == 40
    for split, pictures, coarse, fine in zip(
        ("train", "test"), PICTURES[:2], COARSE, FINE, strict=True
    ):
        for index in range(20):
            row = rows[f"{split}:{index}"]
            image = Image(pictures[index].transpose(1, 2, 0))
            assert row.values == {"image": image, "coarse": coarse[index], "label": fine[index]}
            assert row.split == split


def test_ranges_of_a_binary_file_give_the_same_rows(tmp_path, monkeypatch):
    from genloom_platform.data.formats import cifar as shared

    files, cifar = cifar10_binary(tmp_path), load_format("cifar10")()
    whole = rows_of(cifar, files)
    monkeypatch.setattr(shared, "UNIT_RECORDS", 7)
    assert len(cifar.units(files)) == 18
    assert rows_of(cifar, files) == whole


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("dump", [pickle.dumps, lambda value: pickle.dumps(value, 0)])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name, dump):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "mark"), "w")

    evil = dump(Payload())
    files = written(tmp_path / "source", {"data_batch_1": evil, "train": evil, "meta": evil})
    with pytest.raises(DataError, match=r"asks to run (io|_io|builtins|__builtin__).open"):
        rows_of(load_format(name)(), files)
    assert not (tmp_path / "mark").exists()


BAD_BATCHES = {
    "is no CIFAR-10 batch": pickle.dumps({b"data": PICTURES[0].reshape(20, -1)}, 2)[:-100],
    "it has no b'data'": pickle.dumps({b"labels": [1]}, 2),
    r"shape \[20, 3, 32, 32\]": pickle.dumps({b"data": PICTURES[0], b"labels": [0] * 20}, 2),
    "no list of as many labels": pickle.dumps(
        {b"data": PICTURES[0].reshape(20, -1), b"labels": [1]}, 2
    ),
    "holds the label 10; CIFAR-10 has 0 to 9": pickle.dumps(
        {b"data": PICTURES[0].reshape(20, -1), b"labels": [10] * 20}, 2
    ),
    "holds the label -1": pickle.dumps({b"data": PICTURES[0].reshape(20, -1), b"labels": [-1] * 20}, 2),
    "is no CIFAR-10 batch .": b"",
}


@pytest.mark.parametrize("message", list(BAD_BATCHES))
def test_a_wrong_pickled_batch_is_an_error_that_says_why(tmp_path, message):
    files = written(tmp_path, {"data_batch_1": BAD_BATCHES[message]})
    with pytest.raises(DataError, match=message):
        rows_of(load_format("cifar10")(), files)


@pytest.mark.parametrize(("contents", "message"), [
    ({"data_batch_1.bin": bytes(3072)}, "3,072 bytes, not a multiple of 3073; it is cut short"),
    ({"data_batch_1.bin": b""}, "0 bytes, not a multiple"),
    ({"data_batch_1.bin": b"\x0b" + bytes(3072)}, "holds the label .*11.*; CIFAR-10 has 0 to 9"),
    ({"readme.html": b"x"}, "holds no data_batch_1 or data_batch_1.bin; give CIFAR-10's archive"),
    ({"a/test_batch.bin": bytes(3073), "b/test_batch": b"x"}, "holds test_batch twice"),
])  # fmt: skip
def test_a_wrong_cifar10_is_an_error_that_says_why(tmp_path, contents, message):
    files, cifar = written(tmp_path, contents), load_format("cifar10")()
    with pytest.raises(DataError, match=message):
        rows_of(cifar, files)


def test_cifar100_without_its_names_is_refused(tmp_path):
    files = cifar100_binary(tmp_path)
    (tmp_path / "cifar-100-binary/fine_label_names.txt").write_text("apple\npear\n")
    with pytest.raises(DataError, match="names 2 classes where CIFAR-100 has 100"):
        load_format("cifar100")().columns(files_of(tmp_path))
    del files.sizes["cifar-100-binary/coarse_label_names.txt"]
    with pytest.raises(
        DataError, match=r"coarse_label_names\.txt, which names the classes, is missing"
    ):
        load_format("cifar100")().columns(files)
