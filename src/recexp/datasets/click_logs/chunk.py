"""A chunk of a click log: text in, columns out, and the file that keeps them until all chunks are there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.click_logs.layout import Layout, Rows, join
from recexp.datasets.click_logs.many_lines import PADDING, parse_lines
from recexp.datasets.click_logs.one_line import is_cut_off, parse_line
from recexp.datasets.lines import MalformedRow
from recexp.datasets.malformed import SHOWN_CHARACTERS, SHOWN_LINES
from recexp.storage.atomic import atomic_file

#: Text that is parsed at once: what it becomes stays in a core's cache.
_PIECE = 1 << 19
_ALIGNED = 64

Fault = tuple[str, int, str]
"""Kind, line within the chunk counted from 1, and how it begins, a character for a byte."""


@dataclass(frozen=True)
class Parsed:
    """What became of a chunk.

    Attributes:
        rows: The well-formed ones.
        lines: All of them.
        faults: The others; only the first few say how they begin.
    """

    rows: Rows
    lines: int
    faults: list[Fault] = field(default_factory=list)


def parse_chunk(text: bytes, layout: Layout, *, crlf: bool = False) -> Parsed:
    """Read whole lines; the last one may lack its newline.

    Args:
        text: The lines.
        layout: Of a line.
        crlf: Lines end with a carriage return and a newline.
    """
    if crlf:
        text = text.replace(b"\r\n", b"\n")
    is_open = bool(text) and not text.endswith(b"\n")
    is_half = is_open and is_cut_off(text[text.rfind(b"\n") + 1 :], layout)
    if is_open:
        text += b"\n"
    parts: list[Rows] = []
    faults: list[Fault] = []
    line = 1
    for begin, end in _pieces(text):
        padded = np.empty(PADDING + end - begin, np.uint8)
        padded[:PADDING] = ord("x")
        padded[PADDING:] = np.frombuffer(text, np.uint8, end - begin, begin)
        is_last = is_half and end == len(text)
        rows = None if is_last else parse_lines(padded, layout)
        if rows is None:
            lines = text[begin : end - 1].split(b"\n")
            rows = _one_by_one(lines, layout, faults, line, is_half=is_last)
            line += len(lines)
        else:
            line += len(rows)
        parts.append(rows)
    return Parsed(join(parts, layout), line - 1, faults)


def _pieces(text: bytes) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(text):
        end = min(begin + _PIECE, len(text))
        end = text.index(b"\n", end - 1) + 1
        yield begin, end
        begin = end


def _one_by_one(lines: list[bytes], layout: Layout, faults: list[Fault], first: int, *, is_half: bool) -> Rows:
    good = []
    for number, line in enumerate(lines, start=first):
        try:
            if is_half and number == first + len(lines) - 1:
                raise MalformedRow("cut_off")
            good.append(parse_line(line, layout))
        except MalformedRow as fault:
            shown = line[: SHOWN_CHARACTERS + 1].decode("latin-1") if len(faults) < SHOWN_LINES else ""
            faults.append((str(fault), number, shown))
    shape = (len(good), -1)
    numbers = np.array([row.numbers for row in good], np.int32).reshape(shape if good else (0, 0))
    absent = np.array([[each is None for each in row.ids] for row in good], np.bool_)
    ids = np.array([[each or 0 for each in row.ids] for row in good], np.uint32)
    if not good:
        return join([], layout)
    return Rows(np.array([row.label for row in good], np.uint8), numbers.T, ids.T, absent.T)


@dataclass(frozen=True)
class Chunk:
    """A parsed chunk on disk; columns are read one at a time.

    Attributes:
        path: Of the file: its header in JSON, a newline, then the columns one after another.
        rows: Well-formed rows.
        lines: Lines of the text.
        faults: As in :class:`Parsed`.
        start: Position of the first column.
        numbers: Columns of numbers.
        ids: Columns of ids.
    """

    path: Path
    rows: int
    lines: int
    faults: list[Fault]
    start: int
    numbers: int
    ids: int

    def label(self) -> npt.NDArray[np.uint8]:
        """uint8[N]."""
        return np.fromfile(self.path, np.uint8, self.rows, offset=self.start)

    def number(self, column: int) -> npt.NDArray[np.int32]:
        """int32[N], MISSING where there is none."""
        return np.fromfile(self.path, np.int32, self.rows, offset=self._numbers + 4 * self.rows * column)

    def all_numbers(self) -> npt.NDArray[np.int32]:
        """int32[D, N]."""
        held = np.fromfile(self.path, np.int32, self.rows * self.numbers, offset=self._numbers)
        return held.reshape(self.numbers, self.rows)

    def id(self, column: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
        """uint32[N], and bool[N]: there is none."""
        at = self._numbers + 4 * self.rows * self.numbers
        ids = np.fromfile(self.path, np.uint32, self.rows, offset=at + 4 * self.rows * column)
        packed = -(-self.rows // 8)
        bits = np.fromfile(self.path, np.uint8, packed, offset=at + 4 * self.rows * self.ids + packed * column)
        return ids, np.unpackbits(bits, count=self.rows).view(np.bool_)

    @property
    def _numbers(self) -> int:
        return self.start + _padded(self.rows)


def _padded(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED


def save(path: Path, parsed: Parsed) -> Chunk:
    """Write a chunk in one step: a file of this name is always whole.

    Raises:
        OSError: the disk refuses.
    """
    rows = parsed.rows
    header: dict[str, Any] = {
        "rows": len(rows),
        "lines": parsed.lines,
        "faults": parsed.faults,
        "numbers": len(rows.numbers),
        "ids": len(rows.ids),
    }
    head = json.dumps(header).encode()
    head += b" " * (-(len(head) + 1) % _ALIGNED) + b"\n"
    with atomic_file(path) as stream:
        stream.write(head)
        stream.write(rows.label.data)
        stream.write(bytes(_padded(len(rows)) - len(rows)))
        for column in (*rows.numbers, *rows.ids):
            stream.write(np.ascontiguousarray(column).data)
        for column in rows.absent:
            stream.write(np.packbits(column).data)
    return _chunk(path, header, len(head))


def load(path: Path) -> Chunk | None:
    """A chunk that was written before; None where it is not there or not whole."""
    try:
        with path.open("rb") as stream:
            head = stream.readline()
            size = stream.seek(0, 2)
        chunk = _chunk(path, json.loads(head), len(head))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    held = 4 * chunk.rows * (chunk.numbers + chunk.ids) + -(-chunk.rows // 8) * chunk.ids
    return chunk if size == chunk.start + _padded(chunk.rows) + held else None


def _chunk(path: Path, header: dict[str, Any], start: int) -> Chunk:
    faults = [(str(kind), int(line), str(shown)) for kind, line, shown in header.pop("faults")]
    return Chunk(path=path, faults=faults, start=start, **header)
