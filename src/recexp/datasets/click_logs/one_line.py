"""One line of a click log, read slowly and exactly: the definition of what a well-formed row is."""

from __future__ import annotations

import re
from typing import NamedTuple

from recexp.datasets.click_logs.layout import MISSING, Layout
from recexp.datasets.lines import MalformedRow

LARGEST = 2**31 - 1
_NUMBER = re.compile(rb"-?[0-9]+")
_HEX = re.compile(rb"[0-9A-Fa-f]+")
_CONTROL = re.compile(rb"[\x01-\x08\x0a-\x1f]")
_TAB = re.compile(rb"\t")


class Row(NamedTuple):
    """A well-formed row; None: an id that is not there."""

    label: int
    numbers: list[int]
    ids: list[int | None]


def parse_line(line: bytes, layout: Layout) -> Row:
    """Read one line, without its newline. Of several faults the first check below gives the kind.

    Raises:
        MalformedRow: nul_byte, carriage_return, control_character, missing_columns, extra_columns, bad_label,
            not_a_number, out_of_range, not_hex or too_long.
    """
    if b"\0" in line:
        raise MalformedRow("nul_byte")
    if b"\r" in line:
        raise MalformedRow("carriage_return")
    if _CONTROL.search(line) or (layout.separator != "\t" and _TAB.search(line)):
        raise MalformedRow("control_character")
    fields = line.split(layout.separator.encode())
    if len(fields) != layout.width:
        raise MalformedRow("missing_columns" if len(fields) < layout.width else "extra_columns")
    (label,) = (fields[place] for place in layout.places("label"))
    if label not in {b"0", b"1"}:
        raise MalformedRow("bad_label")
    numbers = [_number(fields[place]) for place in layout.places("number")]
    return Row(int(label), numbers, [_hex(fields[place]) for place in layout.places("hex")])


def is_cut_off(line: bytes, layout: Layout) -> bool:
    """Whether the last line of a file, which has no newline, is only the beginning of a line.

    An id of fewer than 8 digits at its very end is taken for a part of one: published ids have 8.
    """
    try:
        parse_line(line, layout)
    except MalformedRow:
        return True
    return layout.kinds[-1] == "hex" and 0 < len(line.rpartition(layout.separator.encode())[2]) < 8


def _number(field: bytes) -> int:
    if not field:
        return MISSING
    if not _NUMBER.fullmatch(field):
        raise MalformedRow("not_a_number")
    digits = field.removeprefix(b"-").lstrip(b"0")
    value = int(digits or b"0") if len(digits) <= 10 else LARGEST + 1
    if value > LARGEST:
        raise MalformedRow("out_of_range")
    return -value if field.startswith(b"-") else value


def _hex(field: bytes) -> int | None:
    if not field:
        return None
    if not _HEX.fullmatch(field):
        raise MalformedRow("not_hex")
    if len(field) > 8:
        raise MalformedRow("too_long")
    return int(field, 16)
