"""Files of clicks as text, read in pieces: raw clicks, prepared tables, and one session a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from recexp.config.suggest import closest, did_you_mean
from recexp.datasets.click_files import Member
from recexp.datasets.lines import Layout, MalformedRow
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.session_spill import Clicks, Source
from recexp.datasets.text_table import line_pieces, read_columns
from recexp.errors import DataError
from recexp.storage.download import Progress

LARGEST = 2**63 - 1
RAW_LAYOUT = Layout(
    separator=",", width=4, user=0, item=2, time=1, largest=(LARGEST, LARGEST), smallest=0, time_format="iso"
)
"""Session, time, item and category of yoochoose-clicks.dat; the category is ignored."""
_LONGEST_HEADER = 1 << 16
_WHOLE = re.compile(rb"[0-9]+")


@dataclass
class Tally:
    """What all files of a dataset had; ``sequences`` of them had sessions without ids and times."""

    rows: int = 0
    malformed: dict[str, int] = field(default_factory=dict)
    sessions: int = 0
    events: int = 0
    sequences: int = 0

    def add(self, rows: int, counts: Mapping[str, int]) -> None:
        """Count a file that was read to its end."""
        self.rows += rows
        for kind, count in counts.items():
            self.malformed[kind] = self.malformed.get(kind, 0) + count


@dataclass(frozen=True)
class Reading:
    """How the files of one dataset are read.

    Attributes:
        columns: Names of the columns session, item and time of a table.
        policy: For malformed rows.
        temp: Folder for what has to be unpacked.
        progress: Told about what is read.
        tally: Counts.
    """

    columns: Mapping[str, str]
    policy: Policy
    temp: Path
    progress: Progress | None = None
    tally: Tally = field(default_factory=Tally)

    def raw(self, member: Member) -> Source:
        """Raw clicks, to be split by the recipe."""

        def pieces() -> Iterator[Clicks]:
            with member.open(self.temp, self.progress) as stream:
                yield from self._rows(stream, RAW_LAYOUT, member, 1)

        return Source(None, member.size, pieces)

    def prepared(self, member: Member, part: int) -> Source:
        """A table with a header, or sessions line by line; the first line tells which."""

        def pieces() -> Iterator[Clicks]:
            with member.open(self.temp, self.progress) as stream:
                first = stream.readline(_LONGEST_HEADER)
                if is_sequence(first):
                    yield from self._sequences(first, stream, member)
                else:
                    yield from self._rows(stream, table_layout(first, self.columns, str(member)), member, 2)

        return Source(part, member.size, pieces)

    def _rows(self, stream: IO[bytes], layout: Layout, member: Member, first_line: int) -> Iterator[Clicks]:
        malformed = Malformed(str(member), self.policy)
        lines = 0
        for part in read_columns(stream, layout, malformed, self.progress, member.size, first_line):
            lines += part.lines
            for columns in part.columns:
                assert columns.time is not None
                yield Clicks(columns.user, columns.item, columns.time)
        malformed.check(lines)
        self.tally.add(lines, malformed.counts)

    def _sequences(self, first: bytes, stream: IO[bytes], member: Member) -> Iterator[Clicks]:
        """Sessions in the order of time. They have no times: an event's time is its number among all events."""
        malformed = Malformed(str(member), self.policy)
        self.tally.sequences += 1
        lines = 0
        for piece in line_pieces(stream, str(member), begun=first):
            sessions = []
            for line in piece.removesuffix(b"\n").split(b"\n"):
                lines += 1
                try:
                    sessions.append(parse_sequence(line))
                except MalformedRow as fault:
                    malformed.add(str(fault), lines, line)
            yield self._numbered(sessions)
            if self.progress is not None:
                self.progress(f"read {member.path.name}", lines, None)
        malformed.check(lines)
        self.tally.add(lines, malformed.counts)

    def _numbered(self, sessions: list[list[int]]) -> Clicks:
        tally = self.tally
        length = np.array([len(items) for items in sessions], np.int64)
        item = np.array([item for items in sessions for item in items], np.int64)
        session = np.repeat(np.arange(tally.sessions + 1, tally.sessions + len(length) + 1), length)
        time = np.arange(tally.events + 1, tally.events + len(item) + 1)
        tally.sessions += len(length)
        tally.events += len(item)
        return Clicks(session, item, time)


def parse_sequence(line: bytes) -> list[int]:
    """The items of one session, separated by spaces.

    Raises:
        MalformedRow: missing_value (no item), not_a_number or out_of_range.
    """
    items = []
    for text in line.removesuffix(b"\r").split():
        if not _WHOLE.fullmatch(text):
            raise MalformedRow("not_a_number")
        if len(text) > 18:
            raise MalformedRow("out_of_range")
        items.append(int(text))
    if not items:
        raise MalformedRow("missing_value")
    return items


def is_sequence(first: bytes) -> bool:
    """Whether the first line of a file is a session of items instead of a header."""
    return re.fullmatch(rb"[0-9]+( +[0-9]+)* *\r?\n?", first) is not None


def table_layout(header: bytes, columns: Mapping[str, str], source: str) -> Layout:
    """How a table is laid out whose first line names its columns, separated by tab, comma or semicolon.

    Args:
        header: The first line.
        columns: Names of the columns session, item and time.
        source: For messages.

    Raises:
        DataError: with every column that is missing or there twice, and the names there are.
    """
    try:
        text = header.decode("utf-8-sig").rstrip("\r\n")
        separator = next((each for each in "\t,;" if each in text), "\t")
        names = [name.strip() for name in next(csv.reader([text], delimiter=separator, strict=True), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: the first line {header[:60]!r} does not name the columns ({error}).") from None
    problems = []
    for key in ("session", "item", "time"):
        if (times := names.count(columns[key])) != 1:
            told = f"there are {times} columns" if times else "there is no column"
            hint = did_you_mean(closest(columns[key], names))
            problems.append(f"  {told} '{columns[key]}': set dataset.columns.{key}=NAME.{hint}")
    if problems:
        shown = ", ".join(repr(name)[1:-1][:60] for name in names[:30])
        listed = "\n".join(problems)
        raise DataError(f"{source}: the first line must name the columns:\n{listed}\n  It is {shown}.")
    session, item, time = (names.index(columns[key]) for key in ("session", "item", "time"))
    return Layout(
        separator, len(names), session, item, time=time, largest=(LARGEST, LARGEST), smallest=0, time_format="seconds"
    )
