"""The fast parser against the slow one: where it answers at all, it answers the same."""

from __future__ import annotations

import io
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.datasets.columns import parse_columns
from recexp.datasets.lines import Layout, MalformedRow, Row, parse_line
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.table import Table
from recexp.datasets.text_table import read_text

KEPT = Layout("::", 4, user=0, item=1, rating=2, time=3, largest=(50, 90), rating_range=(0.5, 5))
TABBED = Layout("\t", 4, user=0, item=1, rating=2, time=3, largest=(50, 90))
LABELS = Layout(",", 5, user=1, item=0, rating=3, time=4)
BARE = Layout(";", 2, user=0, item=1)
LARGEST = (2**63 - 1, 2**63 - 1)
CLICKS = Layout(",", 4, user=0, item=2, time=1, largest=LARGEST, smallest=0, time_format="iso")
SECONDS = Layout("\t", 3, user=0, item=1, time=2, largest=LARGEST, smallest=0, time_format="seconds")
LAYOUTS = [KEPT, TABBED, LABELS, BARE, CLICKS, SECONDS]
NAMES = ["ids", "tabs", "labels", "bare", "clicks", "seconds"]

NUMBERS = st.one_of(
    st.integers(1, 50).map(str),
    st.integers(-3, 2**64).map(str),
    st.floats(0, 6).map(str),
    st.sampled_from(["", " 3", "3 ", "+3", "nan", "inf", "1e400", "1e-400", ".5", "5.", ".", "1_0", "0x1", "-0", "007",
                     "9007199254740993", "9007199254740992.5", "9223372036854775807", "3.4028235e38", "٣"]),
)  # fmt: skip
WORDS = st.one_of(
    NUMBERS,
    st.text(st.sampled_from('ab é"\ufeff\u2028\x0b:'), max_size=6),
    st.sampled_from(['"a,b"', '"a""b"', '"a\nb"', "x" * 256, "x" * 257, '"', '""']),
)
MOMENTS = st.one_of(
    st.datetimes(min_value=datetime(1969, 12, 31)).map(lambda m: m.isoformat(timespec="milliseconds") + "Z"),
    st.datetimes(min_value=datetime(1969, 12, 31)).map(lambda m: m.isoformat(timespec="seconds") + "Z"),
    st.sampled_from(["2014-02-29T00:00:00.000Z", "2016-02-29T00:00:00.000Z", "2014-04-07T24:00:00.000Z",
                     "2014-04-07T10:51:60.000Z", "2014-13-07T10:51:09.277Z", "2014-04-00T10:51:09.277Z",
                     "2014-04-07 10:51:09.277Z", "2014-04-07T10:51:09.277", "2014-04-07T10:51:09.27Z",
                     "2014-04-07T10:51:09,277Z", "2014-04-07T10:51:09.277z", "0000-04-07T10:51:09.277Z",
                     "2014-04-07T10:51:0a.277Z", "2014-04-07T10:51:09.2é7Z", "１014-04-07T10:51:09Z", "", "1970"]),
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\r"])
SPOILT = st.sampled_from([b"", b"", b"", b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\r"])


@st.composite
def texts(draw: st.DrawFn, layout: Layout) -> bytes:
    field = NUMBERS if layout.largest else WORDS
    plain = st.integers(1, 5).map(str)
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        width = draw(st.sampled_from([layout.width] * 8 + [layout.width - 1, layout.width + 1]))
        use = field if draw(st.booleans()) else plain
        fields = [draw(use) for _ in range(width)]
        if layout.time_format == "iso" and width > 1:
            fields[1] = draw(MOMENTS if draw(st.booleans()) else st.just("2014-04-07T10:51:09.277Z"))
        lines.append(layout.separator.join(fields) + draw(ENDS))
    content = "".join(lines).encode()
    cut = draw(st.integers(0, len(content)))
    return content[:cut] + draw(SPOILT) + content[cut:]


def reference(content: bytes, layout: Layout) -> tuple[list[Row], dict[str, int], list[int]]:
    rows: list[Row] = []
    kinds: dict[str, int] = {}
    bad = []
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse_line(line, layout))
        except MalformedRow as fault:
            kinds[str(fault)] = kinds.get(str(fault), 0) + 1
            bad.append(number)
    return rows, kinds, bad


def table_rows(table: Table, *, timed: bool) -> list[tuple]:
    users = table.user.tolist() if table.user_labels is None else table.user_labels[table.user].tolist()
    items = table.item.tolist() if table.item_labels is None else table.item_labels[table.item].tolist()
    return list(
        zip(users, items, table.rating.tolist(), table.time.tolist() if timed else [None] * len(users), strict=True)
    )


def same_label(ours: object, theirs: object) -> bool:
    return str(ours) == str(theirs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_table_equals_the_line_by_line_reference(layout: Layout, data: st.DataObject) -> None:
    content = data.draw(texts(layout))
    piece = data.draw(st.sampled_from([1 << 20, 16, 40]))
    rows, kinds, bad = reference(content, layout)
    malformed = Malformed("x", Policy("skip", 10**6))
    table = read_text(io.BytesIO(content), layout, malformed, piece=piece)
    assert malformed.counts == kinds
    assert malformed.rows == bad
    found = table_rows(table, timed=layout.time is not None)
    assert len(found) == len(rows)
    for ours, theirs in zip(found, rows, strict=True):
        assert same_label(ours[0], theirs.user)
        assert same_label(ours[1], theirs.item)
        assert ours[2:] == (theirs.rating, theirs.time)


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_fast_parser_never_accepts_what_the_slow_one_refuses(layout: Layout, data: st.DataObject) -> None:
    content = data.draw(texts(layout))
    columns = parse_columns(content, layout) if content else None
    if columns is not None:
        rows, kinds, _ = reference(content, layout)
        assert not kinds
        assert len(columns.user) == len(rows)


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        (KEPT, b"\xef\xbb\xbf1::2::3::4\n"),
        (KEPT, b"1:x:2::3::4\n"),
        (KEPT, b"1::2::3::4\n\n"),
        (KEPT, b"1::2::3::9007199254740993\n1::2::3::1.5\n"),
        (KEPT, b"1::2::3::4\r1::2::3::4\n"),
        (LABELS, b'"a\nb",u,x,1,2\n'),
        (CLICKS, b"1,2014-02-29T00:00:00.000Z,2,0\n"),
        (CLICKS, b"1,2014-04-07T10:51:0a.277Z,2,0\n"),
        (CLICKS, b"1,2014-04-07T10:51:09.27/Z,2,0\n"),
        (CLICKS, b"1,2014-04-07T10:51:09:277Z,2,0\n"),
        (CLICKS, b"1,2014-02-28T00:00:00.000Z,2,0\n1,2014-02-28T00:00:00.00Z,2,0\n"),
        (SECONDS, b"1\t2\t9007199254741.5\n"),
        (LABELS, b'a"b,u,"x",1,2\n"c,u,x,1,2\n'),
    ],
)
def test_what_the_fast_parser_must_leave_to_the_slow_one(layout: Layout, content: bytes) -> None:
    assert parse_columns(content, layout) is None


@pytest.mark.parametrize(
    ("layout", "content"),
    [
        (KEPT, b"1::2::3::4\n5::6::0.5::8\n"),
        (KEPT, b"1::2::3::4\r\n5::6::5::8"),
        (TABBED, b"1\t2\t3.5\t4.5\n"),
        (LABELS, b'"a, b",c,,1,2\n"say ""x""",\xc3\xa9,z,.5,1e3\n'),
        (BARE, b"a b; c \n"),
        (CLICKS, b"0,2014-04-07T10:51:09.277Z,214536502,S\n0,2016-02-29T23:59:59Z,0,12\n"),
        (SECONDS, b"0\t214536502\t1396860669.277\n9223372036854775807\t2\t1396860669\n"),
    ],
)
def test_well_formed_text_takes_the_fast_way(layout: Layout, content: bytes) -> None:
    columns = parse_columns(content, layout)
    assert columns is not None
    rows, kinds, _ = reference(content, layout)
    assert not kinds
    assert [str(value) for value in np.array(columns.user)] == [str(row.user) for row in rows]
    assert columns.time is None or columns.time.tolist() == [row.time for row in rows]


def test_only_the_lines_near_a_fault_are_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"%d,2014-04-07T10:51:09.%03dZ,7,0" % (n, n % 1000) for n in range(5000)]
    lines[3777] = b"3777,2014-04-31T10:51:09.277Z,7,0"
    monkeypatch.setattr("recexp.datasets.text_table._SLOW_PIECE", 1000)
    slow = []
    exact = parse_line
    monkeypatch.setattr("recexp.datasets.text_table.parse_line", lambda *line: slow.append(line) or exact(*line))
    malformed = Malformed("x", Policy("skip"))
    table = read_text(io.BytesIO(b"\n".join(lines)), CLICKS, malformed)
    assert (malformed.counts, malformed.rows) == ({"bad_time": 1}, [3778])
    assert table.user.tolist() == [n for n in range(5000) if n != 3777]
    assert len(slow) < 60
