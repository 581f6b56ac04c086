"""The order of an epoch is a pure function of (seed, epoch)."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ladd_data.loaders.order import draw_views, epoch_order


@settings(deadline=None)
@given(count=st.integers(0, 500), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_an_order_is_a_permutation_and_repeats_itself(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)

    assert np.array_equal(np.sort(order), np.arange(count))
    assert np.array_equal(order, epoch_order(count, seed, epoch))


def test_seed_and_epoch_each_change_the_order() -> None:
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in range(5) for epoch in range(5)]

    assert len(set(orders)) == 25


def test_every_record_comes_first_about_equally_often() -> None:
    firsts = np.bincount([epoch_order(10, 0, epoch)[0] for epoch in range(5000)], minlength=10)

    assert firsts.min() > 400 and firsts.max() < 600


def test_the_order_never_changes_between_releases() -> None:
    assert epoch_order(10, 0, 0).tolist() == GOLDEN_ORDER
    assert epoch_order(10, 7, 3).tolist() == GOLDEN_ORDER_7_3


def test_drawn_views_never_change_between_releases() -> None:
    assert draw_views(25, 5, 0, 0, 0) == (0, 7, 11, 15, 18)
    assert draw_views(25, 5, 7, 3, 256) == (8, 12, 17, 19, 24)


GOLDEN_ORDER = [4, 8, 0, 1, 7, 6, 2, 5, 3, 9]
GOLDEN_ORDER_7_3 = [2, 7, 6, 1, 8, 9, 0, 3, 4, 5]
