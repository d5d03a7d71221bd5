"""Filtering, numbering and sorting, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.datasets.arrays import arrange
from recexp.datasets.table import Table
from recexp.datasets.vocabulary import Vocabulary
from recexp.errors import DataError

ROW = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4))


def table(rows: list[tuple[int, int, int, int]], **labels) -> Table:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Table(columns[0], columns[1], columns[2].astype(float), columns[3], rows_read=len(rows), **labels)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=40), least=st.sampled_from([None, 1, 3]))
def test_kept_ids(rows: list[tuple[int, int, int, int]], least: int | None) -> None:
    kept = [row for row in rows if least is None or row[2] >= least]
    if not kept:
        with pytest.raises(DataError, match="no event with a rating of at least 3"):
            arrange(table(rows), least, "x")
        return
    arrays, num_users, num_items = arrange(table(rows), least, "x")
    expected = sorted(kept, key=lambda row: (row[0], row[3]))  # Python's sort is stable
    assert list(zip(*(arrays[n].tolist() for n in ("user", "item", "rating", "time")), strict=True)) == expected
    assert (num_users, num_items) == (max(row[0] for row in rows), max(row[1] for row in rows))
    assert arrays["offsets"].shape == (num_users + 2,)
    for user in range(1, num_users + 1):
        own = arrays["user"][arrays["offsets"][user] : arrays["offsets"][user + 1]]
        assert own.tolist() == [user] * sum(row[0] == user for row in kept)
    assert {name: array.dtype.str for name, array in arrays.items()} == {
        "user": "<i4", "item": "<i4", "time": "<i8", "rating": "<f4", "offsets": "<i8",
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=40), least=st.sampled_from([None, 1]), seed=st.integers(0, 99))
def test_labels_are_numbered_in_order_where_they_still_have_an_event(rows: list, least: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = rng.permutation(100)[:7], np.array([f"i{n}" for n in rng.permutation(50)[:10]])
    arrays, num_users, num_items = arrange(table(rows, user_labels=users, item_labels=items), least, "x")
    user_names = sorted({int(users[row[0]]) for row in rows})
    item_names = sorted({str(items[row[1]]) for row in rows})
    assert arrays["user_labels"].tolist() == user_names
    assert arrays["item_labels"].tolist() == item_names
    assert (num_users, num_items) == (len(user_names), len(item_names))
    ours = [(user_names[u - 1], item_names[i - 1]) for u, i in zip(arrays["user"], arrays["item"], strict=True)]
    theirs = sorted(rows, key=lambda row: (users[row[0]], row[3]))
    assert ours == [(int(users[row[0]]), str(items[row[1]])) for row in theirs]


def test_nothing_left() -> None:
    with pytest.raises(DataError, match=r"there is no event\. 0 rows were read"):
        arrange(table([]), None, "x")


def test_vocabulary_keeps_numbers_only_where_all_are_plain() -> None:
    import pyarrow as pa

    vocabulary = Vocabulary()
    assert vocabulary.encode(pa.array(["10", "9", "10"])).tolist() == [0, 1, 0]
    assert vocabulary.encode(pa.chunked_array([["9"], ["-3"]])).tolist() == [1, 2]
    assert vocabulary.labels().tolist() == [10, 9, -3]
    vocabulary.encode(pa.array(["09"]))
    assert vocabulary.labels().tolist() == ["10", "9", "-3", "09"]
    huge = Vocabulary()
    huge.encode(pa.array(["9999999999999999999"]))
    assert huge.labels().tolist() == ["9999999999999999999"]
    numbers = Vocabulary()
    numbers.encode(pa.array([2**62, 1]))
    assert numbers.labels().dtype == np.int64
