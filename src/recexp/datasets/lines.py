"""One line of a text file, read slowly and exactly: the definition of what a well-formed row is."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_LABEL = 256
LARGEST_RATING = 3.4028234e38
LARGEST_TIME = 2**63 - 1
INTEGER = r"^-?[0-9]+$"
DECIMAL = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_INTEGER = re.compile(INTEGER)
_DECIMAL = re.compile(DECIMAL)
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How a row is laid out.

    Attributes:
        separator: One character, or ``::``.
        width: Columns that every row must have.
        user: Position of the user's id, counted from 0; likewise ``item``, ``rating`` and ``time`` (None: not there).
        item: See ``user``.
        rating: None gives every row 1.0.
        time: None gives every row its number.
        largest: Largest legal user and item: ids are whole numbers from 1 and are kept. None: ids are labels.
        rating_range: Smallest and largest legal rating; None: any finite number.
        unique: One row for each user and item; a later one is malformed (``duplicate``).
    """

    separator: str
    width: int
    user: int
    item: int
    rating: int | None = None
    time: int | None = None
    largest: tuple[int, int] | None = None
    rating_range: tuple[float, float] | None = None
    unique: bool = False


class Row(NamedTuple):
    """A well-formed row; ``time`` is None where the layout has none."""

    user: int | str
    item: int | str
    rating: float
    time: int | None


class MalformedRow(Exception):
    """The argument is the kind: a short word for what is wrong."""


def parse_line(line: bytes, layout: Layout) -> Row:
    """Read one line, without its newline; a carriage return at the end belongs to the newline.

    Spaces round a field do not count. Of several faults the leftmost check below gives the kind.

    Raises:
        MalformedRow: nul_byte, bad_encoding, bad_quoting, missing_columns, extra_columns, missing_value,
            not_a_number, not_finite, out_of_range, negative_time or label_too_long.
    """
    if b"\0" in line:
        raise MalformedRow("nul_byte")
    try:
        text = line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise MalformedRow("bad_encoding") from None
    fields = _split(text, layout.separator)
    if len(fields) != layout.width:
        raise MalformedRow("missing_columns" if len(fields) < layout.width else "extra_columns")
    users, items = layout.largest or (None, None)
    return Row(
        user=_identity(fields[layout.user], users),
        item=_identity(fields[layout.item], items),
        rating=1.0 if layout.rating is None else _rating(fields[layout.rating], layout.rating_range),
        time=None if layout.time is None else _time(fields[layout.time]),
    )


def _split(text: str, separator: str) -> list[str]:
    if '"' not in text or len(separator) > 1:
        return text.split(separator)
    try:
        rows = list(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        raise MalformedRow("bad_quoting") from None
    return rows[0]


def _identity(field: str, max_id: int | None) -> int | str:
    text = field.strip(" ")
    if not text:
        raise MalformedRow("missing_value")
    if max_id is None:
        if len(text) > MAX_LABEL:
            raise MalformedRow("label_too_long")
        return text
    if not _INTEGER.fullmatch(text):
        raise MalformedRow("not_finite" if _NOT_FINITE.fullmatch(text) else "not_a_number")
    value = _whole(text)
    if value is None or not 1 <= value <= max_id:
        raise MalformedRow("out_of_range")
    return value


def _whole(text: str) -> int | None:
    """The number of a text that matches INTEGER; None beyond 19 digits (int() refuses absurd lengths itself)."""
    digits = text.removeprefix("-").lstrip("0")
    if len(digits) > 19:
        return None
    value = int(digits or "0")
    return -value if text.startswith("-") else value


def _number(text: str) -> float:
    if not text:
        raise MalformedRow("missing_value")
    if _NOT_FINITE.fullmatch(text):
        raise MalformedRow("not_finite")
    if not _DECIMAL.fullmatch(text):
        raise MalformedRow("not_a_number")
    return float(text)


def _rating(field: str, legal: tuple[float, float] | None) -> float:
    value = _number(field.strip(" "))
    if abs(value) > LARGEST_RATING or (legal is not None and not legal[0] <= value <= legal[1]):
        raise MalformedRow("out_of_range")
    return value


def _time(field: str) -> int:
    """Whole numbers exactly; a fraction is rounded down."""
    text = field.strip(" ")
    value: float | int | None
    if _INTEGER.fullmatch(text):
        value = _whole(text)
        if value is None:
            value = -math.inf if text.startswith("-") else math.inf
    else:
        value = _number(text)
    if value < 0:
        raise MalformedRow("negative_time")
    if value > LARGEST_TIME or math.isinf(value):
        raise MalformedRow("out_of_range")
    return math.floor(value)
