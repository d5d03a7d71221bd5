"""The first pass over a click log: chunks of text, several at a time, become files of columns, each only once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recexp.datasets.click_logs import chunk as chunk_file
from recexp.datasets.click_logs.chunk import Chunk, parse_chunk
from recexp.datasets.click_logs.layout import Layout
from recexp.datasets.click_logs.text_source import Piece, TextSource, first_line, pieces
from recexp.datasets.malformed import Malformed, Policy
from recexp.datasets.parallel import in_order
from recexp.datasets.remember import stamp_of
from recexp.errors import DataError
from recexp.storage.atomic import write_json
from recexp.storage.download import Progress


@dataclass(frozen=True)
class Parsing:
    """How text becomes chunks.

    Attributes:
        layout: Of a line.
        policy: For malformed rows.
        folder: Keeps the chunks.
        chunk_bytes: Of text.
        workers: Threads; None: as many as are worth it.
        progress: Told of rows.
    """

    layout: Layout
    policy: Policy
    folder: Path
    chunk_bytes: int = 16 << 20
    workers: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class ParsedSource:
    """All chunks of a source, and its malformed rows by kind."""

    chunks: tuple[Chunk, ...]
    malformed: dict[str, int]

    @property
    def rows(self) -> int:
        """Well-formed rows."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def lines(self) -> int:
        """All lines, the header not counted."""
        return sum(chunk.lines for chunk in self.chunks)


def parse_sources(sources: Sequence[TextSource], parsing: Parsing) -> list[ParsedSource]:
    """Every source; chunks that are there from a build that was killed are taken as they are.

    Raises:
        DataError: a source cannot be read or changes meanwhile, its header is another one, or it has malformed rows
            that the policy does not allow.
        OSError: the disk refuses.
    """
    parsing.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, source in enumerate(sources):
        before = stamp_of(source.path)
        found.append(_Reading(source, number, len(sources), parsing).run())
        if stamp_of(source.path) != before:
            raise DataError(f"{source.path} changed while it was being read. Start again.")
    return found


class _Reading:
    """One source."""

    def __init__(self, source: TextSource, number: int, sources: int, parsing: Parsing) -> None:
        self._source, self._number, self._sources, self._parsing = source, number, sources, parsing
        self._malformed = Malformed(str(source), parsing.policy)
        self._crlf = False

    def run(self) -> ParsedSource:
        done = self._finished()
        if done is None:
            self._crlf = self._check_first(first_line(self._source))
        chunks, line = [], 1 + self._parsing.layout.header
        for share, chunk in done or self._read():
            for kind, place, shown in chunk.faults:
                self._malformed.add(kind, line + place - 1, shown.encode("latin-1"))
            line += chunk.lines
            chunks.append(chunk)
            self._tell(sum(each.rows for each in chunks), share)
        lines = sum(chunk.lines for chunk in chunks)
        write_json(self._parsing.folder / f"source{self._number}.json", len(chunks))
        self._malformed.check(lines)
        return ParsedSource(tuple(chunks), self._malformed.counts)

    def _read(self) -> Iterator[tuple[float, Chunk]]:
        found = pieces(self._source, self._parsing.chunk_bytes, lambda number: self._known(number) is not None)
        yield from in_order(self._parse, found, self._parsing.workers)

    def _parse(self, piece: Piece) -> tuple[float, Chunk]:
        known = self._known(piece.number)
        if known is not None:
            return piece.share, known
        text = piece.read()
        if self._parsing.layout.header and not piece.number:
            text = text[text.find(b"\n") + 1 :]
        parsed = parse_chunk(text, self._parsing.layout, crlf=self._crlf)
        return piece.share, chunk_file.save(self._path(piece.number), parsed)

    def _path(self, number: int) -> Path:
        return self._parsing.folder / f"{self._number}-{number:05d}.chunk"

    def _known(self, number: int) -> Chunk | None:
        return chunk_file.load(self._path(number))

    def _finished(self) -> list[tuple[float, Chunk]] | None:
        """All chunks where the whole source was parsed before."""
        with suppress(OSError, ValueError, TypeError):
            count = int(json.loads((self._parsing.folder / f"source{self._number}.json").read_text("utf-8")))
            chunks = [chunk for chunk in map(self._known, range(count)) if chunk is not None]
            if len(chunks) == count:
                return [((place + 1) / count, chunk) for place, chunk in enumerate(chunks)]
        return None

    def _check_first(self, line: bytes) -> bool:
        """Whether lines end with CR and LF; the header has to name the columns."""
        layout = self._parsing.layout
        names = line.decode("utf-8-sig", "replace").rstrip("\r\n").split(layout.separator)
        if layout.header and names != [*layout.names]:
            raise DataError(
                f"{self._source}: the first line is {line[:120]!r}; it must name the columns "
                f"{layout.separator.join(layout.names)}. Name the original file with dataset.path=FILE."
            )
        return line.endswith(b"\r\n")

    def _tell(self, rows: int, share: float) -> None:
        if self._parsing.progress is not None:
            what = "read rows" if self._sources == 1 else f"read rows, file {self._number + 1} of {self._sources}"
            self._parsing.progress(what, rows, max(rows, round(rows / share)) if share else None)
