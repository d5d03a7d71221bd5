"""Whole texts: numbering of lines, repeats, endless lines, progress."""

from __future__ import annotations

import io

import pytest

from recexp.datasets.lines import Layout
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.text_table import read_text
from recexp.errors import DataError

LAYOUT = Layout("::", 4, user=0, item=1, rating=2, time=3, largest=(50, 90), unique=True)
SKIP = Policy("skip", 100)


def test_repeats_are_left_out_and_named_by_line() -> None:
    text = b"1::2::3::4\nbad\n2::2::3::4\n1::2::5::9\n1::3::3::4\n1::2::3::4\n"
    malformed = Malformed("x", SKIP)
    table = read_text(io.BytesIO(text), LAYOUT, malformed)
    assert malformed.counts == {"missing_columns": 1, "duplicate": 2}
    assert sorted(malformed.rows) == [2, 4, 6]
    assert list(zip(table.user.tolist(), table.item.tolist(), table.rating.tolist(), strict=True)) == [
        (1, 2, 3.0), (2, 2, 3.0), (1, 3, 3.0),
    ]  # fmt: skip
    with pytest.raises(
        DataError, match=r"line 2 \(missing_columns\): 'bad'\n  line 4 \(duplicate\): 'user 1 and item 2"
    ):
        read_text(io.BytesIO(text), LAYOUT, Malformed("x", Policy()))


def test_of_many_repeats_the_first_row_stays() -> None:
    text = b"".join(b"%d::%d::3::%d\n" % (n % 7 + 1, n % 5 + 1, n) for n in range(3000))
    table = read_text(io.BytesIO(text), LAYOUT, Malformed("x", Policy("skip", 10**6)))
    assert table.time.tolist() == list(range(35))


def test_lines_are_counted_across_pieces_and_the_header() -> None:
    text = b"".join(b"1::%d::3::4\n" % n for n in range(1, 61)) + b"x\n"
    malformed = Malformed("x", SKIP)
    steps = []
    table = read_text(io.BytesIO(text), LAYOUT, malformed, lambda *step: steps.append(step), len(text), 2, piece=64)
    assert malformed.rows == [62]
    assert table.rows_read == 61
    assert table.item.tolist() == list(range(1, 61))
    assert steps[-1] == ("read x", len(text), len(text))
    assert len(steps) > 5


def test_line_without_end_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recexp.datasets.text_table._LONGEST_LINE", 1000)
    with pytest.raises(DataError, match="a line has more than 1,000 bytes"):
        read_text(io.BytesIO(b"x" * 5000), LAYOUT, Malformed("x", SKIP), piece=512)


def test_empty_text_has_no_rows() -> None:
    table = read_text(io.BytesIO(b""), LAYOUT, Malformed("x", SKIP))
    assert (len(table.user), table.rows_read) == (0, 0)
