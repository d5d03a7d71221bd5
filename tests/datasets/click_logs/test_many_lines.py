"""Lines read at once with numpy against int(), int(x, 16) and the reader of one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.datasets.avazu import LAYOUT as AVAZU
from recexp.datasets.click_logs.chunk import parse_chunk
from recexp.datasets.click_logs.layout import MISSING, Layout
from recexp.datasets.click_logs.many_lines import PADDING, parse_lines
from recexp.datasets.click_logs.one_line import parse_line
from recexp.datasets.criteo import FORMAT
from recexp.datasets.lines import MalformedRow

SMALL = Layout("\t", ("label", "n", "m", "a", "b"), ("label", "number", "number", "hex", "hex"))
HEX = st.text("0123456789abcdefABCDEF", max_size=8)
NUMBER = st.one_of(
    st.just(""), st.integers(-9_999_999, 99_999_999).map(str), st.from_regex(r"-?0{0,3}[0-9]{1,4}", fullmatch=True)
)


def fast(text: bytes, layout: Layout):
    return parse_lines(np.frombuffer(b"x" * PADDING + text, np.uint8), layout)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("01"), NUMBER, NUMBER, HEX, HEX), min_size=1, max_size=20))
def test_fields_are_what_python_reads(lines: list[tuple[str, ...]]) -> None:
    rows = fast("".join("\t".join(line) + "\n" for line in lines).encode(), SMALL)
    assert rows is not None
    assert rows.label.tolist() == [int(line[0]) for line in lines]
    for place in (0, 1):
        assert rows.numbers[place].tolist() == [int(line[1 + place] or MISSING) for line in lines]
        assert rows.ids[place].tolist() == [int(line[3 + place] or "0", 16) for line in lines]
        assert rows.absent[place].tolist() == [not line[3 + place] for line in lines]


def test_every_character_at_every_place_is_taken_as_one_line_takes_it() -> None:
    """A digit that is none must never pass: arithmetic on words accepts neighbours of digits easily."""
    for column, field in ((1, b"12345678"), (2, b"-1234567"), (3, b"0a1B2c3D"), (4, b"7")):
        fields = [b"1", b"5", b"", b"1234abcd", b"68fd1e64"]
        for place in range(len(field)):
            for byte in range(256):
                fields[column] = field[:place] + bytes([byte]) + field[place + 1 :]
                line = b"\t".join(fields)
                if byte == 0x0A:
                    assert fast(line + b"\n", SMALL) is None
                    continue
                rows = fast(line + b"\n", SMALL)
                try:
                    expected = parse_line(line, SMALL)
                except MalformedRow:
                    assert rows is None, line
                else:
                    assert rows is not None, line
                    assert rows.numbers[:, 0].tolist() == expected.numbers, line
                    assert rows.ids[:, 0].tolist() == [each or 0 for each in expected.ids], line


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text("01\t\n\r\0-+ aF9x.", max_size=24), max_size=12))
def test_any_text_gives_what_reading_line_by_line_gives(texts: list[str]) -> None:
    lines = [b"1\t3\t\tab\t", *(text.encode() for text in "\n".join(texts).split("\n")), b"0\t\t-7\t\tFF"]
    parsed = parse_chunk(b"\n".join(lines) + b"\n", SMALL)
    good, kinds = [], []
    for number, line in enumerate(lines, start=1):
        try:
            good.append(parse_line(line, SMALL))
        except MalformedRow as fault:
            kinds.append((str(fault), number))
    assert [(kind, number) for kind, number, _ in parsed.faults] == kinds
    assert parsed.lines == len(lines)
    assert parsed.rows.label.tolist() == [row.label for row in good]
    assert parsed.rows.numbers.T.tolist() == [row.numbers for row in good]
    assert parsed.rows.ids.T.tolist() == [[each or 0 for each in row.ids] for row in good]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"0\t1\t2\ta", "missing_columns"),
        (b"0\t1\t2\ta\tb\t", "extra_columns"),
        (b"2\t1\t2\ta\tb", "bad_label"),
        (b"\t1\t2\ta\tb", "bad_label"),
        (b"0\t1.5\t2\ta\tb", "not_a_number"),
        (b"0\t-\t2\ta\tb", "not_a_number"),
        (b"0\t2147483648\t2\ta\tb", "out_of_range"),
        (b"0\t1\t2\tg\tb", "not_hex"),
        (b"0\t1\t2\t123456789\tb", "too_long"),
        (b"0\t1\t2\ta\0\tb", "nul_byte"),
        (b"0\t1\t2\ta\tb\r", "carriage_return"),
        (b"0\t1\t2\ta\x0b\tb", "control_character"),
    ],
)
def test_kinds(line: bytes, kind: str) -> None:
    with pytest.raises(MalformedRow, match=kind):
        parse_line(line, SMALL)
    assert fast(line + b"\n", SMALL) is None


def test_numbers_of_more_than_eight_characters_are_read_one_by_one() -> None:
    rows = parse_chunk(b"0\t2147483647\t-2147483647\ta\tb\n1\t\t1\t\tc\n", SMALL).rows
    assert rows.numbers.T.tolist() == [[2**31 - 1, 1 - 2**31], [MISSING, 1]]


@pytest.mark.parametrize("end", [b"\n", b""])
def test_crlf(end: bytes) -> None:
    lines = b"0\t1\t2\ta\tb\r\n1\t3\t\tff\tabcdef01\r" + end
    parsed = parse_chunk(lines if end else lines[:-1], SMALL, crlf=True)
    assert parsed.faults == []
    assert parsed.rows.ids.tolist() == [[10, 255], [11, 0xABCDEF01]]


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b"1\t3\t4\tff\tabcdef01", None),
        (b"1\t3\t4\tff\t", None),
        (b"1\t3\t4\tff\tabc", "cut_off"),
        (b"1\t3", "cut_off"),
    ],
)
def test_a_last_line_without_its_end(last: bytes, kind: str | None) -> None:
    parsed = parse_chunk(b"0\t1\t2\ta\tb\n" + last, SMALL)
    assert [fault[:2] for fault in parsed.faults] == ([] if kind is None else [(kind, 2)])
    assert len(parsed.rows) == 2 - len(parsed.faults)


def test_other_separators() -> None:
    site = b"1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,ddd2926e,44956a24"
    line = b"10000169349117863715,0,14102100,1005,0," + site + b",1,2,15706,320,50,1722,0,35,-1,79"
    rows = fast(line + b"\n", AVAZU)
    assert rows is not None
    assert rows.numbers[:, 0].tolist() == [14102100, 1005, 0, 1, 2, 15706, 320, 50, 1722, 0, 35, -1, 79]
    assert rows.ids[0, 0] == 0x1FBE01FE
    assert fast(line.replace(b",", b"\t", 1) + b"\n", AVAZU) is None
    assert FORMAT.layout.width == 40
