"""Mixtures: exact shares, one order, enterable anywhere, the same for every number of workers."""

import numpy as np
import pytest
from examples import Autoencoder
from hypothesis import given, settings
from hypothesis import strategies as st

from genloom.errors import RequestError, WrongDataset
from genloom_platform.data import derive
from genloom_platform.data import manifest as manifests
from genloom_platform.data.imports import import_dataset
from genloom_platform.data.mixture import PERIOD, MixedOrder, parse
from genloom_platform.data.order import Order
from genloom_platform.data.stream import Stream, local_batches
from genloom_platform.store import Store


@st.composite
def mixtures(draw):
    count = draw(st.integers(1, 4))
    batch = draw(st.integers(1, 30))
    sizes = st.lists(st.integers(20, 60), min_size=4, max_size=8)
    orders = [Order(draw(sizes), f"d{n}", draw(st.integers(0, 3)), batch, 8) for n in range(count)]
    weights = [draw(st.floats(0.05, 1)) for _ in range(count)]
    return MixedOrder(orders, weights, draw(st.integers(0, 5))), orders, weights


@settings(deadline=None, max_examples=30)
@given(mixtures(), st.integers(0, 3 * PERIOD), st.integers(1, 300))
def test_entering_anywhere_gives_exactly_the_rest(mixture, start, length):
    order = mixture[0]
    rows, epochs = order.places(max(0, start - 50), start + length)
    again, epochs_again = order.places(start, start + length)
    assert (rows[-length:] == again).all()
    assert (epochs[-length:] == epochs_again).all()


@settings(deadline=None, max_examples=12)
@given(mixtures())
def test_each_dataset_follows_its_own_order_in_its_exact_share(mixture):
    order, members, weights = mixture
    rows, _ = order.places(0, 2 * PERIOD)
    offset = 0
    for member, weight in zip(members, weights, strict=True):
        mine = rows[(rows >= offset) & (rows < offset + member.rows)] - offset
        assert abs(len(mine) / (2 * PERIOD) - weight / sum(weights)) <= 1 / PERIOD
        assert (mine == member.places(0, len(mine))[0]).all()
        offset += member.rows


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("mixture").as_uri())
    import_dataset(store, "digits", None, None, {})
    derive.clean(store, "digits", "moved", {"augment": {"images": {"shift": 0.2}}})
    text = tmp_path_factory.mktemp("text") / "t.txt"
    text.write_text("text " * 100)
    import_dataset(store, "text", str(text), "t", {})
    return store


def test_a_mixture_streams_the_same_batches_to_every_number_of_workers(store):
    manifest = manifests.load(store, "digits*3 + moved")
    stream = Stream(store, manifest, Autoencoder(), 48, seed=1)
    alone = [block["x"] for block in local_batches(stream, 2, 30)]
    shares = [list(local_batches(stream, 2, 30, rank, 3)) for rank in range(3)]
    for number, batch in enumerate(alone):
        assert (np.concatenate([share[number]["x"] for share in shares]) == batch).all()
    rows, _ = stream.order.places(0, PERIOD)
    assert (rows < manifests.load(store, "digits").splits["train"]).sum() == 7500


def test_a_mixture_names_its_parts_and_its_version_depends_on_them(store):
    mixture = manifests.load(store, "digits*0.75 + moved*0.25")
    digits = manifests.load(store, "digits")
    assert digits.full_name in mixture.full_name
    assert mixture.digest == manifests.load(store, "digits*3 + moved*1").digest
    assert mixture.digest != manifests.load(store, "digits + moved").digest
    assert manifests.load(store, mixture.full_name).digest == mixture.digest
    assert mixture.splits["test"] == 2 * digits.splits["test"]


def test_what_cannot_be_mixed_is_told(store):
    with pytest.raises(WrongDataset, match="share no column"):
        manifests.load(store, "digits + t")
    with pytest.raises(RequestError, match="names a dataset twice"):
        manifests.load(store, "digits + digits")
    with pytest.raises(RequestError, match="too small"):
        manifests.load(store, "digits*0.00001 + moved")
    for wrong in ("digits*-1 + moved", "digits*x + moved", "digits + ", "digits*0"):
        with pytest.raises(RequestError, match="no dataset with a weight"):
            parse(wrong)
