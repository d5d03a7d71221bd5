"""The text of a click log, wherever it lies, cut into chunks of whole lines that do not depend on how it is packed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from recexp.datasets.remember import stamp_of
from recexp.errors import DataError
from recexp.storage.archive import describe_content, open_member
from recexp.storage.checksum import sha256_json

LONGEST_LINE = 1 << 20
_SAMPLES, _SAMPLE = 64, 1 << 16


@dataclass(frozen=True)
class TextSource:
    """A file of lines: plain, gzip, or the file ``member`` of an archive, which has ``size`` bytes."""

    path: Path
    member: str | None = None
    size: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    @property
    def is_plain(self) -> bool:
        """Whether any place of it can be read at once.

        Raises:
            DataError: it is no file of lines.
        """
        kind = "unknown" if self.member is not None else _kind(self.path)
        if kind not in {"unknown", "tar.gz"}:
            told = "is empty (0 bytes)" if kind == "empty" else f"is {kind} inside, not rows"
            raise DataError(f"{self.path} {told}. Name another file, or fetch it again.")
        return self.member is None and kind == "unknown"

    def identity(self) -> str:
        """sha256 over name in the archive, size, time of change and samples: reading all of it would take minutes.

        Raises:
            DataError: the file cannot be read.
        """
        size, changed = stamp_of(self.path)
        sample = hashlib.sha256()
        with _readable(self.path), self.path.open("rb") as stream:
            for place in range(_SAMPLES):
                stream.seek(max(0, size - _SAMPLE) * place // (_SAMPLES - 1))
                sample.update(stream.read(_SAMPLE))
        return sha256_json([self.member, size, changed, sample.hexdigest()])

    @contextmanager
    def open(self) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
        """The text as a stream, and the share of the file that was read.

        Raises:
            DataError: the file cannot be read, or is damaged.
        """
        with _readable(self.path):
            if self.member is not None:
                with open_member(self.path, self.member) as stream:
                    yield stream, lambda: stream.tell() / self.size if self.size else 0.0
                return
            with self.path.open("rb") as raw:
                size = self.path.stat().st_size
                stream = raw if self.is_plain else cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
                yield stream, lambda: raw.tell() / max(1, size)


def _kind(path: Path) -> str:
    with _readable(path):
        return describe_content(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a gzip file that is truncated or damaged: {error}. Fetch it again.") from error
    except OSError as error:
        if error.filename is not None and Path(str(error.filename)) != path:
            raise
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


@dataclass(frozen=True)
class Piece:
    """A chunk of text that is still to be read; ``share`` of the source is read when it is."""

    number: int
    share: float
    read: Callable[[], bytes]


def first_line(source: TextSource) -> bytes:
    """With its newline."""
    with source.open() as (stream, _):
        return stream.readline(LONGEST_LINE)


def pieces(source: TextSource, size: int, skip: Callable[[int], bool]) -> Iterator[Piece]:
    """The source in chunks: number n has the lines that begin at bytes n * size up to (n + 1) * size, may be none.

    Args:
        source: To read.
        size: In bytes, of the text itself.
        skip: Whether the text of a chunk is not needed.

    Raises:
        DataError: the file cannot be read, or has a line without an end.
    """
    yield from _anywhere(source, size) if source.is_plain else _in_turn(source, size, skip)


def _anywhere(source: TextSource, size: int) -> Iterator[Piece]:
    total = source.path.stat().st_size
    for number in range(max(1, -(-total // size))):
        yield Piece(number, min(1.0, (number + 1) * size / max(1, total)), _reader(source, number * size, size))


def _reader(source: TextSource, begin: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with _readable(source.path), source.path.open("rb") as stream:
            skipped = 0
            if begin:
                stream.seek(begin - 1)
                skipped = len(_rest_of_line(stream, source)) - 1
            text = stream.read(max(0, size - skipped))
            return text if not text or text.endswith(b"\n") else text + _rest_of_line(stream, source)

    return read


def _rest_of_line(stream: IO[bytes], source: TextSource) -> bytes:
    rest = stream.readline(LONGEST_LINE)
    if len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
        raise DataError(
            f"{source}: a line has more than {LONGEST_LINE:,} bytes: this is no text file of rows. Name another file."
        )
    return rest


def _in_turn(source: TextSource, size: int, skip: Callable[[int], bool]) -> Iterator[Piece]:
    with source.open() as (stream, share):
        number = begin = 0
        is_more = True
        while is_more:
            text = stream.read(max(0, (number + 1) * size - begin))
            if text and not text.endswith(b"\n"):
                text += _rest_of_line(stream, source)
            begin += len(text)
            is_more = bool(text) or begin >= (number + 1) * size
            if is_more or not number:
                yield Piece(number, share(), _given(b"" if skip(number) else text))
            number += 1


def _given(text: bytes) -> Callable[[], bytes]:
    return lambda: text
