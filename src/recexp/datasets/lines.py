"""One line of a text file, read slowly and exactly: the definition of what a well-formed row is."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

MAX_LABEL = 256
LARGEST_RATING = 3.4028234e38
LARGEST_TIME = 2**63 - 1
INTEGER = r"^-?[0-9]+$"
DECIMAL = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_INTEGER = re.compile(INTEGER)
_DECIMAL = re.compile(DECIMAL)
_ISO = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))?Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
        largest: Largest legal user and item: ids are whole numbers from ``smallest``. None: ids are labels.
        rating_range: Smallest and largest legal rating; None: any finite number.
        unique: One row for each user and item; a later one is malformed (``duplicate``).
        smallest: Smallest legal id where ``largest`` is given.
        time_format: ``number`` is kept as a whole number, a fraction is rounded down. ``iso`` is
            YYYY-MM-DDTHH:MM:SS.mmmZ (or without the milliseconds) and ``seconds`` a decimal count since 1970: both
            become whole milliseconds since 1970 in UTC.
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
    smallest: int = 1
    time_format: Literal["number", "iso", "seconds"] = "number"


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
            not_a_number, not_finite, out_of_range, negative_time, bad_time or label_too_long.
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
        user=_identity(fields[layout.user], users, layout.smallest),
        item=_identity(fields[layout.item], items, layout.smallest),
        rating=1.0 if layout.rating is None else _rating(fields[layout.rating], layout.rating_range),
        time=None if layout.time is None else _TIMES[layout.time_format](fields[layout.time].strip(" ")),
    )


def _split(text: str, separator: str) -> list[str]:
    if '"' not in text or len(separator) > 1:
        return text.split(separator)
    try:
        rows = list(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        raise MalformedRow("bad_quoting") from None
    return rows[0]


def _identity(field: str, max_id: int | None, min_id: int) -> int | str:
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
    if value is None or not min_id <= value <= max_id:
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


def _time(text: str) -> int:
    """Whole numbers exactly; a fraction is rounded down."""
    value = _exact(text)
    _refuse_time(value)
    return math.floor(value)


def _seconds(text: str) -> int:
    """Milliseconds of a count of seconds, to the nearest."""
    value = _exact(text)
    _refuse_time(value)
    _refuse_time(value * 1000)
    return round(value * 1000)


def _exact(text: str) -> float | int:
    """The number, as a whole one where it is written so; beyond 19 digits infinity."""
    if not _INTEGER.fullmatch(text):
        return _number(text)
    value = _whole(text)
    if value is None:
        return -math.inf if text.startswith("-") else math.inf
    return value


def _refuse_time(value: float) -> None:
    if value < 0:
        raise MalformedRow("negative_time")
    if value > LARGEST_TIME or math.isinf(value):
        raise MalformedRow("out_of_range")


def _iso(text: str) -> int:
    """Milliseconds of a strict ISO time in UTC; 60 seconds do not exist."""
    if not text:
        raise MalformedRow("missing_value")
    found = _ISO.fullmatch(text)
    if found is None:
        raise MalformedRow("bad_time")
    try:
        moment = datetime(*(int(part) for part in found.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise MalformedRow("bad_time") from None
    if moment < _EPOCH:
        raise MalformedRow("negative_time")
    return (moment - _EPOCH) // timedelta(milliseconds=1) + int(found[7] or 0)


_TIMES = {"number": _time, "seconds": _seconds, "iso": _iso}
