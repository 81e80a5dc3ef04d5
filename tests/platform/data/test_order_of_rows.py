"""The stream's promise, over random datasets: one sequence of global batches, whoever reads it, from wherever."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import genloom
from genloom_platform.data import encoding, shards
from genloom_platform.data.imports import import_dataset
from genloom_platform.data.manifest import Manifest, Provenance, Shard, digest_of
from genloom_platform.data.order import Order
from genloom_platform.data.stream import Stream, local_batches
from genloom_platform.store import Store


class Numbers(genloom.Predictor):
    """Hands the row's number through."""

    contract = "1.0"

    class Data(genloom.Data):
        number: genloom.NumberColumn

    def build(self, data):
        raise NotImplementedError

    def prepare(self, row, data):
        return {"number": row["number"], "noise": row.rng.random()}

    def loss(self, model, batch):
        raise NotImplementedError

    def predict(self, model, batch):
        raise NotImplementedError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("numbers").as_uri())


def dataset(store, chunked):
    """A dataset of numbered rows; `chunked` has a list of chunk sizes for each shard."""
    columns = {"number": genloom.NumberColumn(minimum=0, maximum=0, integer=True)}
    made, first = [], 0
    place = "-".join("_".join(map(str, chunks)) for chunks in chunked)[:80]
    for index, (rows, chunk) in enumerate(chunked):
        numbers = list(range(first, first + rows))
        table = pa.table(
            {"number": numbers, encoding.KEY: [str(n) for n in numbers]},
            schema=encoding.arrow_schema(columns),
        )
        path = f"{place}/{index}.parquet"
        size, sha = shards.write(store, f"datasets/n/{path}", table, chunk)
        chunks = tuple(min(chunk, rows - at) for at in range(0, rows, chunk))
        made.append(Shard(path=path, split="train", chunks=chunks, size_bytes=size, sha256=sha))
        first += rows
    return Manifest(
        name="n", digest=digest_of(columns, tuple(made)), columns=columns, shards=tuple(made),
        provenance=Provenance(format="n", source="n", importer="n"), created_at="",
    )  # fmt: skip


def read(stream, start, stop, workers):
    shares = [list(local_batches(stream, start, stop, rank, workers)) for rank in range(workers)]
    return [
        {name: np.concatenate([share[name] for share in batch]) for name in ("number", "noise")}
        for batch in zip(*shares, strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=4),
    st.integers(1, 8), st.integers(1, 6), st.integers(0, 9), st.data(),
)  # fmt: skip
def test_one_sequence_for_all(store, chunked, workers, share, seed, data):
    manifest = dataset(store, chunked)
    rows, batch = sum(count for count, _ in chunked), workers * share
    stream = Stream(store, manifest, Numbers(), batch, seed)
    stop = -(-2 * rows // batch)
    alone = read(stream, 0, stop, 1)
    numbers = np.concatenate([each["number"] for each in alone])
    assert sorted(numbers[:rows]) == sorted(numbers[rows : 2 * rows]) == list(range(rows))
    if rows > 12:
        assert (numbers[:rows] != numbers[rows : 2 * rows]).any()
    together = read(stream, 0, stop, workers)
    entered = data.draw(st.integers(0, stop - 1))
    again = read(stream, entered, stop, workers)
    for name in ("number", "noise"):
        assert all((a[name] == b[name]).all() for a, b in zip(alone, together, strict=True))
        assert all((a[name] == b[name]).all() for a, b in zip(alone[entered:], again, strict=True))


def spread(labels, batch, classes):
    """The mean chi-square of the batches' class counts: classes - 1 times (N - G) / (N - 1) in a full shuffle.

    What a step's gradient sees of the dataset is its batch; so what counts is that each batch is as good a
    sample of the classes as one of a full shuffle, however sorted the source was.
    """
    counts = [
        np.bincount(part, minlength=classes)
        for part in labels[: len(labels) // batch * batch].reshape(-1, batch)
    ]
    return float(
        np.mean([((count - batch / classes) ** 2 / (batch / classes)).sum() for count in counts])
    )


def test_batches_of_a_sorted_source_are_as_mixed_as_those_of_a_full_shuffle(store, tmp_path):
    classes, each, batch = 20, 200, 40
    lines = [f"{label},{label * each + n}" for label in range(classes) for n in range(each)]
    (tmp_path / "sorted.csv").write_text("\n".join(["label,n", *lines]))
    settings = {"columns": {"label": "class"}, "split": {"test": 0}}
    manifest = import_dataset(store, "csv", str(tmp_path / "sorted.csv"), "sorted", settings)
    (shard,) = manifest.shards
    table = shards.read_chunks(store, manifest, shard, range(len(shard.chunks)))
    labels = table.column("label").to_numpy()
    chunks = [32] * (len(labels) // 32)
    found, full = [], []
    rng = np.random.default_rng(0)
    for seed in range(30):
        # Windows of four batches: a small part of the dataset, as in one that does not fit in memory.
        order = Order(chunks, manifest.digest, seed, batch, 4)
        found.append(spread(labels[order.places(0, order.rows)[0]], batch, classes))
        full.append(spread(rng.permutation(labels), batch, classes))
    error = np.hypot(np.std(found), np.std(full)) / np.sqrt(len(found))
    assert abs(np.mean(found) - np.mean(full)) < 4 * error
    unshuffled = np.sort(labels)
    order = Order(chunks, manifest.digest, 0, batch, 4)
    assert spread(unshuffled[order.places(0, order.rows)[0]], batch, classes) > 2 * np.mean(full)
