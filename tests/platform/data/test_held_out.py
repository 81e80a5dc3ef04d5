"""Held-out rows: none of them is trained on, all others are, and which they are depends on the dataset alone."""

import numpy as np
import pytest
from examples import Watched

from genloom_platform.data import manifest as manifests
from genloom_platform.data.held_out import HeldOut
from genloom_platform.data.stream import Stream, local_batches


@pytest.mark.parametrize("rows", [1, 2, 9, 100, 1599])
@pytest.mark.parametrize("every", [2, 3, 7, 10])
def test_every_row_is_either_held_out_or_kept_and_counted_once(rows, every):
    held_out = HeldOut(every, "a dataset")
    held = held_out.rows(rows)
    count = int(held_out.kept_before(np.array([rows]))[0])
    kept = held_out.kept(np.arange(count))
    assert sorted([*held, *kept]) == list(range(rows))
    assert abs(len(held) - rows / every) <= 1


def test_the_rows_are_drawn_and_not_every_tenth():
    places = HeldOut(10, "a dataset").rows(10_000) % 10
    assert np.bincount(places, minlength=10).min() > 80
    assert not np.array_equal(
        HeldOut(10, "another").rows(10_000), HeldOut(10, "a dataset").rows(10_000)
    )


@pytest.mark.parametrize("data", ["digits", "digits*0.5 + more*0.5"])
def test_an_epoch_holds_every_kept_row_and_no_other(tmp_path, data):
    from genloom_platform.data.imports import import_dataset
    from genloom_platform.store import Store

    store = Store(tmp_path.as_uri())
    import_dataset(store, "digits", None, None, {})
    import_dataset(store, "digits", None, "more", {"seed": 1})
    manifest = manifests.load(store, data)
    whole = sum(sum(shard.chunks) for shard in manifest.shards_of("train"))
    stream = Stream(store, manifest, Watched(), 41, seed=2, held_out=8)
    seen = set()
    for batch in range(-(-2 * whole // 41)):
        seen |= set(stream.order.batch(batch).tolist())
    held = stream.held_out_rows(10_000)
    assert len(seen) + len(held) == whole
    pictures = {row["image"].array.tobytes() for row in held}
    trained = next(local_batches(stream, 0, 1))
    assert len(trained["x"]) == 41
    assert len(stream.held_out_rows(20)) == 20
    assert len(pictures) > 150
