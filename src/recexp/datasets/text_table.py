"""Rows of a text file: quickly while all is well, line by line where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recexp.datasets.columns import Columns, parse_columns
from recexp.datasets.lines import Layout, MalformedRow, parse_line
from recexp.datasets.malformed import Malformed
from recexp.datasets.parallel import in_order
from recexp.datasets.table import Table
from recexp.datasets.vocabulary import Vocabulary
from recexp.errors import DataError
from recexp.storage.download import Progress

_PIECE = 8 << 20
_SLOW_PIECE = 128 << 10
_LONGEST_LINE = 64 << 20


def read_text(
    stream: IO[bytes],
    layout: Layout,
    malformed: Malformed,
    progress: Progress | None = None,
    total: int | None = None,
    first_line: int = 1,
    piece: int = _PIECE,
) -> Table:
    """Read all rows of ``stream``.

    Args:
        stream: Lines ending in LF or CR LF; the last may lack its end.
        layout: Columns and legal values.
        malformed: Collects bad rows and applies the policy.
        progress: Told about the bytes that are parsed.
        total: Bytes in all, if known.
        first_line: Number of the first line that ``stream`` gives (2 after a header).
        piece: Bytes parsed at a time.

    Raises:
        DataError: malformed rows that the policy does not allow, or a line that has no end.
    """
    rows = _Rows(layout)
    lines = 0
    for part in read_columns(stream, layout, malformed, progress, total, first_line, piece, workers=1):
        for columns in part.columns:
            rows.add(columns)
        lines += part.lines
    table = rows.table(malformed, first_line, lines)
    malformed.check(table.rows_read)
    return table


@dataclass(frozen=True)
class Part:
    """Some successive lines: their well-formed rows in order, the others, and how many lines they are."""

    columns: list[Columns]
    faults: list[tuple[str, int, bytes]]
    lines: int
    bytes: int


def read_columns(
    stream: IO[bytes],
    layout: Layout,
    malformed: Malformed,
    progress: Progress | None = None,
    total: int | None = None,
    first_line: int = 1,
    piece: int = _PIECE,
    workers: int | None = None,
) -> Iterator[Part]:
    """As :func:`read_text`, one part at a time in bounded memory; nothing is compared across parts.

    Whoever takes the parts applies the policy at the end (``malformed.check``).
    """
    done = 0
    tasks = _numbered(line_pieces(stream, malformed.source, piece), first_line)
    for part in in_order(lambda task: _parse(*task, layout), tasks, workers):
        for fault in part.faults:
            malformed.add(*fault)
        yield part
        done += part.bytes
        if progress is not None:
            progress(f"read {PurePath(malformed.source).name}", done, total)


def _numbered(pieces: Iterator[bytes], line: int) -> Iterator[tuple[bytes, int, int]]:
    """Each piece with the number of its first line and how many lines it has."""
    for piece in pieces:
        lines = _newlines(piece) + (not piece.endswith(b"\n"))
        yield piece, line, lines
        line += lines


def _newlines(piece: bytes) -> int:
    """As ``piece.count``, which is slow where there are many."""
    return int(np.count_nonzero(np.frombuffer(piece, np.uint8) == ord("\n")))


def _parse(piece: bytes, line: int, lines: int, layout: Layout) -> Part:
    part = Part([], [], lines, len(piece))
    _parse_into(part, piece, line, layout)
    return part


def _parse_into(part: Part, piece: bytes, line: int, layout: Layout) -> None:
    """The fast way; where it gives up, halves of the piece, so that only the lines near a fault are read slowly."""
    columns = parse_columns(piece, layout)
    if columns is None and len(piece) > _SLOW_PIECE:
        half = piece.find(b"\n", len(piece) // 2) + 1
        if 0 < half < len(piece):
            _parse_into(part, piece[:half], line, layout)
            return _parse_into(part, piece[half:], line + piece.count(b"\n", 0, half), layout)
    part.columns.append(columns if columns is not None else _parse_slowly(piece, layout, part.faults, line))
    return None


def line_pieces(stream: IO[bytes], source: str, size: int = _PIECE, begun: bytes = b"") -> Iterator[bytes]:
    """Pieces of whole lines; ``begun`` was read before and belongs to the first.

    Raises:
        DataError: a line has no end; ``source`` is named.
    """
    rest = [begun]
    held = len(begun)
    while block := stream.read(size):
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, block[:end]])
            rest, held = [], 0
        rest.append(block[end:])
        held += len(block) - end
        if held > _LONGEST_LINE:
            raise DataError(f"{source}: a line has more than {_LONGEST_LINE:,} bytes: this is no text file of rows.")
    if held:
        yield b"".join(rest)


def _parse_slowly(piece: bytes, layout: Layout, faults: list[tuple[str, int, bytes]], line: int) -> Columns:
    rows = []
    for number, text in enumerate(piece.removesuffix(b"\n").split(b"\n"), start=line):
        try:
            rows.append(parse_line(text, layout))
        except MalformedRow as fault:
            faults.append((str(fault), number, text))
    user, item = [row.user for row in rows], [row.item for row in rows]
    kept = layout.largest is not None
    return Columns(
        user=np.array(user, dtype=np.int64) if kept else pa.array(user, pa.string()),
        item=np.array(item, dtype=np.int64) if kept else pa.array(item, pa.string()),
        rating=None if layout.rating is None else np.array([row.rating for row in rows], dtype=np.float64),
        time=None if layout.time is None else np.array([row.time for row in rows], dtype=np.int64),
    )


class _Rows:
    """The pieces put together."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._users, self._items = Vocabulary(), Vocabulary()
        self._parts: list[tuple[npt.NDArray[Any] | None, ...]] = []

    def add(self, columns: Columns) -> None:
        user, item = columns.user, columns.item
        if self._layout.largest is None:
            user, item = self._users.encode(user), self._items.encode(item)
        self._parts.append((user, item, columns.rating, columns.time))

    def table(self, malformed: Malformed, first_line: int, lines: int) -> Table:
        empty = np.empty(0, np.int64)
        user, item = (np.concatenate([empty, *(part[n] for part in self._parts)]) for n in (0, 1))
        rating = np.ones(len(user)) if self._layout.rating is None else self._joined(2, np.float64)
        time = np.arange(1, len(user) + 1) if self._layout.time is None else self._joined(3, np.int64)
        if self._layout.unique:
            keep = ~_repeated(user, item)
            if not keep.all():
                _note_repeats(malformed, user, item, keep, first_line, lines)
                user, item, rating, time = user[keep], item[keep], rating[keep], time[keep]
        labels = self._layout.largest is None
        return Table(
            user=user,
            item=item,
            rating=rating,
            time=time,
            rows_read=lines,
            user_labels=self._users.labels() if labels else None,
            item_labels=self._items.labels() if labels else None,
            malformed=malformed.counts,
        )

    def _joined(self, column: int, dtype: type[np.generic]) -> npt.NDArray[Any]:
        parts = [part[column] for part in self._parts]
        return np.concatenate([np.empty(0, dtype), *(part for part in parts if part is not None)])


def _repeated(user: npt.NDArray[np.int64], item: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows have a user and item that an earlier row has."""
    again = np.zeros(len(user), dtype=np.bool_)
    if not len(user):
        return again
    key = user * (int(item.max()) + 1) + item
    ordered = np.sort(key)
    if (ordered[1:] != ordered[:-1]).all():
        return again
    order = np.argsort(key, kind="stable")
    again[order[1:]] = key[order[1:]] == key[order[:-1]]
    return again


def _note_repeats(
    malformed: Malformed,
    user: npt.NDArray[np.int64],
    item: npt.NDArray[np.int64],
    keep: npt.NDArray[np.bool_],
    first_line: int,
    lines: int,
) -> None:
    every = np.arange(first_line, first_line + lines)
    number = every[~np.isin(every, malformed.rows)]
    for row in np.flatnonzero(~keep).tolist():
        malformed.add("duplicate", int(number[row]), f"user {user[row]} and item {item[row]} again")
