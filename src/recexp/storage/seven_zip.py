"""7z archives, read with py7zr where the extra ``7z`` is installed: what is inside, and one file to a place of ours."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recexp.errors import DataError
from recexp.storage.atomic import explain_full_disk

_Told = Callable[[int], None]


def list_files(path: Path) -> list[tuple[str, int]]:
    """Name and size of every plain file.

    Raises:
        DataError: py7zr is not installed, or the archive is damaged or encrypted.
    """
    with _open(path) as archive:
        return [(entry.filename, int(entry.uncompressed)) for entry in archive.list() if _is_plain(entry)]


def extract_file(path: Path, name: str, size: int, target: Path, told: _Told | None = None) -> None:
    """Write one file of an archive to ``target``, in memory that does not grow with it.

    No name of the archive is used as a path, so nothing can be written elsewhere.

    Args:
        path: The archive.
        name: Full name in it.
        size: Bytes that the archive states; more are refused.
        target: Replaced if it exists.
        told: Called with the bytes written so far.

    Raises:
        DataError: py7zr is not installed, or the archive is damaged or states another size.
        OSError: the disk refuses; a full one is noticed before anything is written.
    """
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise explain_full_disk(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), target, size)
    sink = None
    try:
        with _open(path) as archive, target.open("wb") as stream:
            sink = _sink(stream, size, told)
            archive.extract(targets=[name], factory=sink)
    except OSError as error:
        explained = explain_full_disk(error, target, size)
        raise explained from (None if explained is error else error)
    if sink is None or sink.written != size:
        raise DataError(f"{path}: {name!r} does not have the {size:,} bytes that the archive states: it is damaged.")


def _is_plain(entry: Any) -> bool:
    return not entry.is_directory and not getattr(entry, "is_symlink", False)


def _library(path: Path) -> Any:
    try:
        import py7zr
    except ImportError:
        raise DataError(
            f"{path} is a 7z archive, and py7zr, which reads these, is not installed: pip install 'recexp[7z]'. Or "
            f"unpack it with any 7z program and name the file in it with dataset.path=FILE."
        ) from None
    return py7zr


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    library = _library(path)
    known = library.exceptions
    damage = (
        known.ArchiveError, known.Bad7zFile, known.CrcError, known.DecompressionError, known.InternalError,
        known.UnsupportedCompressionMethodError, lzma.LZMAError, zlib.error, EOFError, ValueError, IndexError, KeyError,
        TypeError, AssertionError,
    )  # fmt: skip
    try:
        with library.SevenZipFile(path, "r") as archive:
            yield archive
    except known.PasswordRequired as error:
        raise DataError(f"{path} is encrypted. Unpack it and name the file in it with dataset.path=FILE.") from error
    except damage as error:
        raise DataError(
            f"{path} is a 7z archive that is truncated or damaged ({path.stat().st_size:,} bytes): "
            f"{error or type(error).__name__}. Delete it and fetch it again."
        ) from error


def _sink(stream: Any, size: int, told: _Told | None) -> Any:
    """What py7zr writes into: one open file, whatever name it states."""
    from py7zr.io import Py7zIO, WriterFactory

    class Sink(Py7zIO, WriterFactory):
        written = 0

        def create(self, filename: str) -> Sink:
            return self

        def write(self, s: bytes | bytearray) -> int:
            self.written += len(s)
            if self.written > size:
                raise ValueError(f"more than {size:,} bytes came")
            stream.write(s)
            if told is not None:
                told(self.written)
            return len(s)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            stream.flush()

        def size(self) -> int:
            return self.written

    return Sink()
