"""The order of a long table: every row once, the same however it is asked for, and as random as it says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.problems import row_order
from recexp.problems.row_order import RowOrder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_order, "BLOCK_ROWS", 8)


@pytest.mark.parametrize("kind", ["window", "total", "none"])
@given(rows=st.integers(0, 300), window=st.integers(1, 120), cuts=st.lists(st.integers(0, 300), max_size=5))
@settings(max_examples=60, deadline=None)
def test_every_row_once_however_an_epoch_is_cut(kind: str, rows: int, window: int, cuts: list[int]) -> None:
    order = RowOrder(rows, kind, window, seed=3)
    bounds = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    pieces = [order.slice(2, a, b) for a, b in itertools.pairwise(bounds)]
    joined = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    assert sorted(joined.tolist()) == list(range(rows))
    whole = RowOrder(rows, kind, window, seed=3).slice(2, 0, rows)
    assert joined.tolist() == whole.tolist()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    seen = [RowOrder(200, "window", 64, seed).slice(epoch, 0, 200).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in seen}) == 4
    assert RowOrder(200, "none", 64, 0).slice(1, 5, 9).tolist() == [5, 6, 7, 8]


def test_a_window_holds_whole_blocks_and_nothing_else() -> None:
    """What is read at a time is some pieces of the file, each in one go."""
    order = RowOrder(400, "window", 32, seed=0)
    for window in range(400 // 32):
        rows = order.slice(0, window * 32, window * 32 + 32)
        assert len(set((rows // 8).tolist())) == 4
        assert rows.tolist() != sorted(rows.tolist())


def test_data_within_one_window_is_shuffled_completely() -> None:
    """The first row's place is uniform: none of 40 rows comes first too rarely or too often in 4,000 epochs."""
    order = RowOrder(40, "window", 1000, seed=1)
    first = np.bincount([order.slice(epoch, 0, 1)[0] for epoch in range(4000)], minlength=40)
    assert ((first - 100) ** 2 / 100).sum() < 80  # chi-square with 39 degrees of freedom: p < 1e-4 beyond 80
