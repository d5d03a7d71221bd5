"""Rows of a Parquet file, a batch at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recexp.datasets.lines import LARGEST_RATING, MAX_LABEL
from recexp.datasets.malformed import Malformed
from recexp.datasets.table import Table
from recexp.datasets.vocabulary import Vocabulary
from recexp.errors import DataError
from recexp.storage.download import Progress

if TYPE_CHECKING:
    from recexp.datasets.interactions import ColumnMap

_ROWS = 1 << 20
_LARGEST_TIME = float(2**63)


def read_parquet(path: Path, columns: ColumnMap, malformed: Malformed, progress: Progress | None = None) -> Table:
    """Read the mapped columns. Times of timestamp columns become microseconds since 1970.

    Raises:
        DataError: not a whole Parquet file, a missing column, a column of a type that cannot be used, or malformed
            rows that the policy does not allow.
    """
    try:
        with pq.ParquetFile(path) as opened:
            return _read(opened, path, columns, malformed, progress)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet; it is truncated, damaged or unusual: {error}.") from error


def _read(opened: Any, path: Path, columns: ColumnMap, malformed: Malformed, progress: Progress | None) -> Table:
    schema = opened.schema_arrow
    positions = columns.find(schema.names, str(path))
    problems = [_refusal(field, schema.field(position)) for field, position in positions.items()]
    if any(problems):
        raise DataError(f"{path}: " + " ".join(problem for problem in problems if problem))
    users, items = Vocabulary(), Vocabulary()
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    done, total = 0, opened.metadata.num_rows
    names = {field: schema.names[position] for field, position in positions.items()}
    for batch in opened.iter_batches(batch_size=_ROWS, columns=sorted(set(names.values()))):
        values = {field: _plain(batch.column(name)) for field, name in names.items()}
        good = _check(values, batch.num_rows, done, malformed)
        user, item = (values[field].filter(pa.array(good)) for field in ("user", "item"))
        parts.append((
            users.encode(user),
            items.encode(item),
            _numbers(values["rating"])[good] if "rating" in values else np.ones(int(good.sum())),
            _whole(values["time"], good) if "time" in values else np.empty(0, np.int64),
        ))  # fmt: skip
        done += batch.num_rows
        if progress is not None:
            progress(f"read {path.name}", done, total)
    malformed.check(done)
    joined = [np.concatenate([part[n] for part in parts] or [np.empty(0, np.int64)]) for n in range(4)]
    return Table(
        user=joined[0],
        item=joined[1],
        rating=joined[2],
        time=joined[3] if "time" in names else np.arange(1, len(joined[0]) + 1),
        rows_read=done,
        user_labels=users.labels(),
        item_labels=items.labels(),
        malformed=malformed.counts,
    )


def _refusal(field: str, column: Any) -> str | None:
    """Why a column cannot be used, or None."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if field in {"user", "item"}:
        legal, words = text or pa.types.is_integer(kind), "whole numbers or text"
    elif field == "rating":
        legal, words = number, "numbers"
    else:
        legal, words = number or pa.types.is_timestamp(kind) or pa.types.is_date(kind), "numbers, dates or timestamps"
    told = f"column '{column.name}' (dataset.columns.{field}) has type {column.type}; it must hold {words}."
    return None if legal else told


def _plain(column: Any) -> Any:
    """Without dictionaries; timestamps and dates as microseconds; other numbers as they are."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_uint64(kind):
        return column.cast(pa.int64())  # refuses what does not fit
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    return column


def _numbers(column: Any) -> npt.NDArray[np.float64]:
    """float64[N]; NaN where null."""
    values: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values.astype(np.float64)


def _whole(column: Any, good: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    kept = column.filter(pa.array(good))
    if pa.types.is_floating(kept.type):
        floored: npt.NDArray[np.int64] = np.floor(kept.to_numpy(zero_copy_only=False)).astype(np.int64)
        return floored
    times: npt.NDArray[np.int64] = kept.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return times


def _check(values: dict[str, Any], rows: int, before: int, malformed: Malformed) -> npt.NDArray[np.bool_]:
    """Which rows are good; the others are noted, each with the first of its faults."""
    kind = np.full(rows, "", dtype="U16")
    for field, column in values.items():
        for word, bad in _faults(field, column):
            kind[bad & (kind == "")] = word
    for row in np.flatnonzero(kind != "").tolist():
        shown = ", ".join(f"{field}={column[row].as_py()!r}" for field, column in values.items())
        malformed.add(str(kind[row]), before + row + 1, shown)
    return np.asarray(kind == "")


def _faults(field: str, column: Any) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    missing = pc.is_null(column).to_numpy(zero_copy_only=False)
    if field in {"user", "item"}:
        if not pa.types.is_string(column.type):
            return [("missing_value", missing)]
        lengths = pc.fill_null(pc.utf8_length(column), 1).to_numpy(zero_copy_only=False)
        nul = pc.fill_null(pc.match_substring(column, "\0"), False).to_numpy(zero_copy_only=False)
        return [("missing_value", missing | (lengths == 0)), ("nul_byte", nul), ("label_too_long", lengths > MAX_LABEL)]
    numbers = _numbers(column)
    faults = [("missing_value", missing), ("not_finite", ~np.isfinite(numbers))]
    if field == "rating":
        return [*faults, ("out_of_range", np.abs(numbers) > LARGEST_RATING)]
    return [*faults, ("negative_time", numbers < 0), ("out_of_range", numbers >= _LARGEST_TIME)]
