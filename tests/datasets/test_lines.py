"""What a well-formed line is, and the kind of every fault."""

from __future__ import annotations

import pytest

from recexp.datasets.lines import Layout, MalformedRow, Row, parse_line

RATINGS = Layout("::", 4, user=0, item=1, rating=2, time=3, largest=(50, 90), rating_range=(1, 5))
LABELS = Layout(",", 3, user=0, item=1, time=2)
LARGEST = (2**63 - 1, 2**63 - 1)
CLICKS = Layout(",", 4, user=0, item=2, time=1, largest=LARGEST, smallest=0, time_format="iso")
SECONDS = Layout("\t", 3, user=0, item=1, time=2, largest=LARGEST, smallest=0, time_format="seconds")


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b"1::2::3::4", Row(1, 2, 3.0, 4)),
        (b" 50 ::90::5::9223372036854775807\r", Row(50, 90, 5.0, 2**63 - 1)),
        (b"007::2::1e0::12.9", Row(7, 2, 1.0, 12)),
        (b"1::2::3::9007199254740993", Row(1, 2, 3.0, 2**53 + 1)),
        (b"1::2::3::-0", Row(1, 2, 3.0, 0)),
    ],
)
def test_well_formed(line: bytes, row: Row) -> None:
    assert parse_line(line, RATINGS) == row


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"1::2::3", "missing_columns"),
        (b"", "missing_columns"),
        (b"1::2::3::4::5", "extra_columns"),
        (b"1::2::3::4::", "extra_columns"),
        (b"1:2::3::4", "missing_columns"),
        (b"x::2::3::4", "not_a_number"),
        (b"1.0::2::3::4", "not_a_number"),
        (b"0x1::2::3::4", "not_a_number"),
        (b"\xd9\xa1::2::3::4", "not_a_number"),
        (b"nan::2::3::4", "not_finite"),
        (b"1::2::nan::4", "not_finite"),
        (b"1::2::3::inf", "not_finite"),
        (b"51::2::3::4", "out_of_range"),
        (b"0::2::3::4", "out_of_range"),
        (b"1::91::3::4", "out_of_range"),
        (b"1::99999999999999999999999::3::4", "out_of_range"),
        (b"1::2::6::4", "out_of_range"),
        (b"1::2::3::9223372036854775808", "out_of_range"),
        (b"1::2::3::-1", "negative_time"),
        (b"1::2::3::-0.5", "negative_time"),
        (b"::2::3::4", "missing_value"),
        (b"1::2::::4", "missing_value"),
        (b"1::2::3::4\0", "nul_byte"),
        (b"1::2::3::4\xff", "bad_encoding"),
        (b"1::2::3_0::4", "not_a_number"),
    ],
)
def test_faults(line: bytes, kind: str) -> None:
    with pytest.raises(MalformedRow, match=f"^{kind}$"):
        parse_line(line, RATINGS)


def test_labels_and_quotes() -> None:
    assert parse_line(b'"a, b",\xc3\xa9,3', LABELS) == Row("a, b", "é", 1.0, 3)
    assert parse_line(b'"a""b",c,3', LABELS).user == 'a"b'
    for line, kind in (
        (b'"a"b,c,3', "bad_quoting"),
        (b'"a,c,3', "bad_quoting"),
        (b"a" * 257 + b",c,3", "label_too_long"),
    ):
        with pytest.raises(MalformedRow, match=kind):
            parse_line(line, LABELS)


@pytest.mark.parametrize(
    ("layout", "line", "time"),
    [
        (CLICKS, b"0,2014-04-07T10:51:09.277Z,0,S", 1_396_867_869_277),
        (CLICKS, b"1, 2014-04-07T10:51:09Z ,2,0\r", 1_396_867_869_000),
        (CLICKS, b"1,1970-01-01T00:00:00.000Z,2,0", 0),
        (CLICKS, b"1,2016-02-29T23:59:59.999Z,2,0", 1_456_790_399_999),
        (SECONDS, b"1\t2\t1396860669.277", 1_396_860_669_277),
        (SECONDS, b"1\t2\t1396860669", 1_396_860_669_000),
        (SECONDS, b"1\t2\t0.0005", 0),
        (SECONDS, b"1\t2\t1.3966e9", 1_396_600_000_000),
    ],
)
def test_times_in_milliseconds(layout: Layout, line: bytes, time: int) -> None:
    assert parse_line(line, layout).time == time


@pytest.mark.parametrize(
    ("layout", "line", "kind"),
    [
        (CLICKS, b"1,,2,0", "missing_value"),
        (CLICKS, b"1,1396867869,2,0", "bad_time"),
        (CLICKS, b"1,2014-04-07 10:51:09.277Z,2,0", "bad_time"),
        (CLICKS, b"1,2014-04-07T10:51:09.277,2,0", "bad_time"),
        (CLICKS, b"1,2014-04-07T10:51:09.2Z,2,0", "bad_time"),
        (CLICKS, b"1,2014-02-29T10:51:09.277Z,2,0", "bad_time"),
        (CLICKS, b"1,2014-04-07T10:51:60.277Z,2,0", "bad_time"),
        (CLICKS, b"1,1969-12-31T23:59:59.999Z,2,0", "negative_time"),
        (CLICKS, b"-1,2014-04-07T10:51:09.277Z,2,0", "out_of_range"),
        (CLICKS, b"1,2014-04-07T10:51:09.277Z,x,0", "not_a_number"),
        (SECONDS, b"1\t2\t-1.5", "negative_time"),
        (SECONDS, b"1\t2\t9223372036854775.9", "out_of_range"),
        (SECONDS, b"1\t2\tnan", "not_finite"),
    ],
)
def test_faults_of_times(layout: Layout, line: bytes, kind: str) -> None:
    with pytest.raises(MalformedRow, match=f"^{kind}$"):
        parse_line(line, layout)
