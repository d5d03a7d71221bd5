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
            user=_identities(fields[layout.user], users),
            item=_identities(fields[layout.item], items),
            rating=None if layout.rating is None else _ratings(fields[layout.rating], layout.rating_range),
            time=None if layout.time is None else _times(fields[layout.time]),
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


def _identities(field: Any, largest: int | None) -> Any:
    if largest is None:
        lengths = pc.utf8_length(field)
        if not _all(pc.and_(pc.greater(lengths, 0), pc.less_equal(lengths, MAX_LABEL))):
            raise _Unclear
        return field
    if not _all(pc.ascii_is_decimal(field)):
        raise _Unclear
    values = _numpy(field.cast(pa.int64()))
    if len(values) and (values.min() < 1 or values.max() > largest):
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
    if not _all(pc.match_substring_regex(field, DECIMAL)):
        raise _Unclear
    values = _numpy(field.cast(pa.float64()))
    if not (values.min() >= 0 and values.max() < _EXACT):
        raise _Unclear
    times = np.floor(values).astype(np.int64)
    return times
