"""Parquet: types that can be used, types that cannot, and bad rows by kind."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recexp.datasets.events import Events
from recexp.errors import DataError

Prepare = Callable[..., Events]
GOOD = {"user": [3, 1], "item": ["b", "a"], "rating": [2.0, 3.0], "time": [7, 8]}


def write(path: Path, **columns) -> Path:
    pq.write_table(pa.table({**GOOD, **columns}), path)
    return path


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("user", pa.array([3, 1], pa.uint64()), [1, 3]),
        ("user", pa.array(["x", "w"], pa.large_string()), ["w", "x"]),
        ("rating", pa.array([Decimal("2.5"), Decimal("1.0")]), [1.0, 2.5]),
        ("rating", pa.array([2, 1], pa.int8()), [1.0, 2.0]),
        ("time", pa.array([7.9, 8.1]), [8, 7]),
        (
            "time",
            pa.array([dt.datetime(1970, 1, 1, 0, 0, 2), dt.datetime(1970, 1, 1)], pa.timestamp("ms")),
            [0, 2_000_000],
        ),
        ("time", pa.array([dt.date(1970, 1, 3), dt.date(1970, 1, 2)]), [86_400_000_000, 172_800_000_000]),
    ],
)
def test_types(interactions: Prepare, tmp_path: Path, column: str, values: pa.Array, expected: list) -> None:
    events = interactions(write(tmp_path / "a.parquet", **{column: values}))
    found = events.user_labels if column == "user" else getattr(events, column)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("user", pa.array([3.0, 1.0]), r"column 'user' \(dataset.columns.user\) has type double; it must hold whole"),
        ("item", pa.array([True, False]), "has type bool"),
        ("rating", pa.array(["2", "3"]), "has type string; it must hold numbers"),
        ("time", pa.array(["2", "3"]), "must hold numbers, dates or timestamps"),
        ("user", pa.array([2**64 - 1, 1], pa.uint64()), "unusual"),
    ],
)
def test_types_that_cannot_be_used(
    interactions: Prepare, tmp_path: Path, column: str, values: pa.Array, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        interactions(write(tmp_path / "a.parquet", **{column: values}))


def test_bad_rows_by_kind(interactions: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recexp.datasets.parquet_table._ROWS", 3)
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({
            "user": ["a", None, "b", "", "c", "d", "e\0", "f" * 257, "g"],
            "item": pa.array([1, 2, 3, 4, 5, None, 7, 8, 9]),
            "rating": [1.0, 1.0, np.nan, 1.0, np.inf, 1.0, 1.0, 1.0, 1e39],
            "time": [5, 6, 7, 8, 9, 1, 1, 1, 1],
        }),
        path,
    )  # fmt: skip
    events = interactions(path, malformed="skip")
    assert len(events) == 1
    assert events.meta.malformed == {
        "missing_value": 3, "not_finite": 2, "nul_byte": 1, "label_too_long": 1, "out_of_range": 1,
    }  # fmt: skip
    with pytest.raises(DataError, match=r"8 rows are malformed .*\n  row 2 \(missing_value\): .user=None, item=2"):
        interactions(path)


def test_bad_times(interactions: Prepare, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        user=[1, 2, 3, 4],
        item=[1, 1, 1, 1],
        rating=[1, 1, 1, 1],
        time=[-1.0, np.nan, 1e19, 4.0],
    )
    events = interactions(path, malformed="skip")
    assert events.meta.malformed == {"negative_time": 1, "not_finite": 1, "out_of_range": 1}
    assert events.user_labels.tolist() == [4]


def test_missing_column(interactions: Prepare, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'ratings'.*Did you mean rating"):
        interactions(write(tmp_path / "a.parquet"), columns={"rating": "ratings"})
    events = interactions(write(tmp_path / "b.parquet"), columns={"rating": None, "time": None})
    assert events.user_labels.tolist() == [1, 3]
    assert events.time.tolist() == [2, 1]


def test_truncated_file(interactions: Prepare, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        interactions(path)
