"""The stream: the same examples for every number of workers, and on Ray as in one process."""

import numpy as np
import pytest
from examples import Autoencoder

import genloom
from genloom.errors import DataError
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Stream, local_batches, ray_batches, ray_dataset, to_batch


@pytest.fixture
def stream(digits_store):
    return Stream(digits_store, manifests.load(digits_store, "digits"), Autoencoder(), 48, seed=3)


def joined(stream, start, stop, workers):
    """The global batches, put together from the workers' shares."""
    shares = [list(local_batches(stream, start, stop, rank, workers)) for rank in range(workers)]
    return [np.concatenate([share["x"] for share in batch]) for batch in zip(*shares, strict=True)]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_global_batches_are_the_same_for_every_number_of_workers(stream, workers):
    alone = joined(stream, 5, 45, 1)
    together = joined(stream, 5, 45, workers)
    assert len(alone) == 40
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_ray_deals_out_the_same_shares(stream, ray_cluster):
    import ray
    import ray.data

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False
    shards = ray_dataset(stream, 7, 260, 2).streaming_split(2, equal=True)

    @ray.remote(num_cpus=0)
    def drain(shard):
        return list(ray_batches(shard))

    dealt = ray.get([drain.remote(shard) for shard in shards])
    for rank in range(2):
        local = list(local_batches(stream, 7, 260, rank, 2))
        assert len(dealt[rank]) == len(local)
        assert all((a["x"] == b["x"]).all() for a, b in zip(dealt[rank], local, strict=True))


class Ragged(Autoencoder):
    """Examples of different lengths, padded by a collate of its own, and augmented by the row's numbers."""

    def prepare(self, row, data):
        return {"x": row.rng.random(row.rng.integers(1, 9)), "n": 1}

    def collate(self, examples):
        import torch

        return {"x": torch.nn.utils.rnn.pad_sequence([torch.tensor(e["x"]) for e in examples], True)}


def test_ragged_examples_reach_the_generators_own_collate(digits_store, ray_cluster):

    manifest = manifests.load(digits_store, "digits")
    stream = Stream(digits_store, manifest, Ragged(), 16, seed=1)
    (local,) = local_batches(stream, 3, 4)
    (dealt,) = ray_batches(ray_dataset(stream, 3, 4, 1))
    batch = to_batch(Ragged(), dealt)
    assert batch["x"].shape == (16, max(len(x) for x in local["x"]))
    assert (batch["x"] == to_batch(Ragged(), local)["x"]).all()


def test_augmentation_depends_on_seed_epoch_and_row(digits_store):
    manifest = manifests.load(digits_store, "digits")
    rows = manifest.splits["train"]

    def first(seed, batch):
        return next(
            local_batches(Stream(digits_store, manifest, Ragged(), rows, seed), batch, batch + 1)
        )

    again, other = first(1, 0)["x"], first(1, 1)["x"]
    assert all((a == b).all() for a, b in zip(first(1, 0)["x"], again, strict=True))
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(again, other, strict=True))


class Broken(Autoencoder):
    def prepare(self, row, data):
        return {"x": 1 / 0}


def test_a_failing_prepare_is_named_with_its_row(digits_store):
    stream = Stream(digits_store, manifests.load(digits_store, "digits"), Broken(), 8)
    with pytest.raises(DataError, match=r"Broken.prepare failed on row \d+: ZeroDivisionError"):
        next(local_batches(stream, 0, 1))


def test_a_row_holds_images_and_class_numbers(digits_store):
    seen = []

    class Look(Autoencoder):
        class Data(genloom.Data):
            image: genloom.ImageColumn
            label: genloom.ClassColumn

        def prepare(self, row, data):
            seen.append((row["image"], row["label"], data.label.names))
            return {"x": 0}

    stream = Stream(digits_store, manifests.load(digits_store, "digits"), Look(), 4)
    next(local_batches(stream, 0, 1))
    image, label, names = seen[0]
    assert image.array.shape == (8, 8, 1)
    assert 0 <= label < 10
    assert names == tuple("0123456789")
