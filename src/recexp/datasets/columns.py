"""Many lines at once: columns of a well-formed piece of a text file, or None where the slow way must look."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recexp.datasets.lines import DECIMAL, LARGEST_RATING, MAX_LABEL, Layout

_EXACT = float(2**53)
_BOM = b"\xef\xbb\xbf"
_ISO = b"0000-00-00T00:00:00.000Z"
_DIGITS = [place for place, mark in enumerate(_ISO) if mark == ord("0")]
_MARKS = [place for place, mark in enumerate(_ISO) if mark != ord("0")]


@dataclass(frozen=True)
class Columns:
    """Rows of one piece. Ids: int64[N] where they are kept, else an Arrow array of labels. None: no such column."""

    user: Any
    item: Any
    rating: npt.NDArray[np.float64] | None
    time: npt.NDArray[np.int64] | None


class _Unclear(Exception):
    """Something is, or may be, malformed."""


def parse_columns(piece: bytes, layout: Layout) -> Columns | None:
    """Parse whole lines, with the very results of :func:`recexp.datasets.lines.parse_line`.

    None where any line is malformed, or where it cannot be ruled out cheaply.
    """
    if b"\0" in piece or piece.startswith(_BOM) or piece.count(b"\r") != piece.count(b"\r\n"):
        return None
    try:
        if not piece.isascii():
            piece.decode()
        quoted = b'"' in piece and len(layout.separator) == 1
        fields = _split_quoted(piece, layout) if quoted else _split(piece, layout)
        if b" " in piece:
            fields = [pc.utf8_trim(field, characters=" ") for field in fields]
        users, items = layout.largest or (None, None)
        return Columns(
            user=_identities(fields[layout.user], users, layout.smallest),
            item=_identities(fields[layout.item], items, layout.smallest),
            rating=None if layout.rating is None else _ratings(fields[layout.rating], layout.rating_range),
            time=None if layout.time is None else _TIMES[layout.time_format](fields[layout.time]),
        )
    except (_Unclear, pa.ArrowInvalid, UnicodeDecodeError, csv.Error):
        return None


def _split(piece: bytes, layout: Layout) -> list[Any]:
    """Arrow splits at one byte only: ``::`` is read as ``:`` with an empty column between every two."""
    step = len(layout.separator)
    names = [str(number) for number in range((layout.width - 1) * step + 1)]
    table = pa_csv.read_csv(
        pa.py_buffer(piece),
        read_options=pa_csv.ReadOptions(column_names=names),
        parse_options=pa_csv.ParseOptions(
            delimiter=layout.separator[0], quote_char=False, double_quote=False, ignore_empty_lines=False
        ),
        convert_options=pa_csv.ConvertOptions(
            check_utf8=False,
            null_values=[""],
            strings_can_be_null=False,
            column_types={name: pa.null() if int(name) % step else pa.string() for name in names},
        ),
    )
    return [table.column(position) for position in range(0, len(names), step)]


def _split_quoted(piece: bytes, layout: Layout) -> list[Any]:
    lines = [line.removesuffix("\r") for line in piece.decode().removesuffix("\n").split("\n")]
    rows = list(csv.reader(lines, delimiter=layout.separator, strict=True))
    # fewer rows than lines: a quoted field went over the end of its line
    if len(rows) != len(lines) or any(len(row) != layout.width for row in rows):
        raise _Unclear
    return [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]


def _all(condition: Any) -> bool:
    return bool(pc.all(condition, min_count=0).as_py())


def _numpy(values: Any) -> Any:
    return values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)


def _identities(field: Any, largest: int | None, smallest: int) -> Any:
    if largest is None:
        lengths = pc.utf8_length(field)
        if not _all(pc.and_(pc.greater(lengths, 0), pc.less_equal(lengths, MAX_LABEL))):
            raise _Unclear
        return field
    if not _all(pc.ascii_is_decimal(field)):
        raise _Unclear
    values = _numpy(field.cast(pa.int64()))
    if len(values) and (values.min() < smallest or values.max() > largest):
        raise _Unclear
    return values


def _ratings(field: Any, legal: tuple[float, float] | None) -> npt.NDArray[np.float64]:
    if not _all(pc.match_substring_regex(field, DECIMAL)):
        raise _Unclear
    values: npt.NDArray[np.float64] = _numpy(field.cast(pa.float64()))
    low, high = legal or (-LARGEST_RATING, LARGEST_RATING)
    if len(values) and not (values.min() >= low and values.max() <= high):
        raise _Unclear
    return values


def _times(field: Any) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64]
    if _all(pc.ascii_is_decimal(field)):
        times = _numpy(field.cast(pa.int64()))
        return times
    times = np.floor(_decimals(field, _EXACT)).astype(np.int64)
    return times


def _seconds(field: Any) -> npt.NDArray[np.int64]:
    times: npt.NDArray[np.int64] = np.rint(_decimals(field, _EXACT / 1000) * 1000).astype(np.int64)
    return times


def _decimals(field: Any, limit: float) -> npt.NDArray[np.float64]:
    """Numbers from 0 to below ``limit``, up to where a product or a floor is exact."""
    if not _all(pc.match_substring_regex(field, DECIMAL)):
        raise _Unclear
    values: npt.NDArray[np.float64] = _numpy(field.cast(pa.float64()))
    if len(values) and not (values.min() >= 0 and values.max() < limit):
        raise _Unclear
    return values


def _iso(field: Any) -> npt.NDArray[np.int64]:
    """All texts at once as a table of characters, without a call for each."""
    lengths = pc.binary_length(field)
    if not _all(pc.equal(lengths, len(_ISO))):
        short = pc.equal(lengths, len(_ISO) - 4)
        start = pc.binary_slice(field.cast(pa.binary()), 0, len(_ISO) - 5).cast(pa.string())
        field = pc.if_else(short, pc.binary_join_element_wise(start, ".000Z", ""), field)
        if not _all(pc.equal(pc.binary_length(field), len(_ISO))):
            raise _Unclear
    text = _characters(field, len(_ISO))
    if not (text[:, _MARKS] == np.frombuffer(_ISO, np.uint8)[_MARKS]).all():
        raise _Unclear
    digits = text[:, _DIGITS] - np.uint8(ord("0"))
    if (digits > 9).any():
        raise _Unclear
    return _milliseconds(digits.T.astype(np.int32))


def _characters(field: Any, width: int) -> npt.NDArray[np.uint8]:
    """uint8[N, width] of texts that all have this width."""
    array = field.combine_chunks() if isinstance(field, pa.ChunkedArray) else field
    _, offsets, data = array.buffers()
    if not len(array):
        return np.empty((0, width), np.uint8)
    start = int(np.frombuffer(offsets, np.int32)[array.offset])
    return np.frombuffer(data, np.uint8)[start : start + len(array) * width].reshape(-1, width)


def _milliseconds(digits: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """int64[N] since 1970 from the 17 digits int32[17, N] of a date and time; what does not exist is unclear."""
    year = ((digits[0] * 10 + digits[1]) * 10 + digits[2]) * 10 + digits[3]
    month, day, hour, minute, second = (digits[n] * 10 + digits[n + 1] for n in range(4, 14, 2))
    if not len(year):
        return np.empty(0, np.int64)
    fits = year.min() >= 1970 and month.min() >= 1 and month.max() <= 12 and day.min() >= 1
    if not (fits and hour.max() <= 23 and minute.max() <= 59 and second.max() <= 59):
        raise _Unclear
    months = (year - 1970) * 12 + month - 1
    first, after = (m.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for m in (months, months + 1))
    if (day > after - first).any():
        raise _Unclear
    seconds = (first + day - 1) * 86_400 + (hour * 60 + minute) * 60 + second
    times: npt.NDArray[np.int64] = seconds * 1000 + (digits[14] * 10 + digits[15]) * 10 + digits[16]
    return times


_TIMES = {"number": _times, "seconds": _seconds, "iso": _iso}
