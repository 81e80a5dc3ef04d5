import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genloom_platform.data.order import Order

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@st.composite
def orders(draw):
    return Order(
        draw(sizes), draw(st.text("abc", max_size=3)), draw(st.integers(0, 5)), draw(st.integers(1, 30)),
        draw(st.integers(1, 6)),
    )  # fmt: skip


@given(orders(), st.integers(0, 3))
def test_every_row_comes_once_in_each_epoch(order, epoch):
    rows, epochs = order.places(epoch * order.rows, (epoch + 1) * order.rows)
    assert sorted(rows) == list(range(order.rows))
    assert set(epochs) == {epoch}


@given(orders(), st.integers(0, 200), st.integers(1, 200))
def test_entering_anywhere_gives_exactly_the_rest(order, start, length):
    whole = order.places(0, start + length)[0]
    assert (order.places(start, start + length)[0] == whole[start:]).all()


@given(orders(), st.integers(0, 20))
def test_a_batch_is_its_places_of_the_sequence(order, number):
    size = order.global_batch
    assert (order.batch(number) == order.places(number * size, (number + 1) * size)[0]).all()


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_epochs_and_seeds_differ(seed):
    order = Order([100, 100], "d", seed, 10)
    first, second = order.places(0, 200)[0], order.places(200, 400)[0]
    assert (first != second).any()
    assert (Order([100, 100], "d", seed + 1, 10).places(0, 200)[0] != first).any()
    assert (Order([100, 100], "e", seed, 10).places(0, 200)[0] != first).any()


def test_a_dataset_within_a_window_is_shuffled_fully():
    """The correlation of place and row vanishes, as in a full shuffle: |r| under 4 standard errors."""
    order = Order([250] * 8, "d", 0, 20, 100)
    rows = order.places(0, 2000)[0]
    assert abs(np.corrcoef(np.arange(2000), rows)[0, 1]) < 4 / np.sqrt(2000)
