"""Atomic files and directories: a reader sees the old content or the new, never a half."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SUFFIX = ".tmp"


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that nobody else uses and that ``sweep_orphans`` recognises."""
    return path.with_name(f".{path.name[:180]}.{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}")


def sync_directory(folder: Path) -> None:
    """Make the names in ``folder`` durable. File systems that cannot do it are left alone."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def explain_full_disk(error: OSError, path: Path, needed: int) -> OSError:
    """The same error with the path, the bytes that were needed and the bytes that are free; others unchanged."""
    if error.errno not in _FULL:
        return error
    folder = path if path.is_dir() else path.parent
    try:
        free = f"{shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        free = "free space unknown"
    return OSError(error.errno, f"no space left for {path}: at least {needed:,} bytes are needed, {free}", str(path))


@contextmanager
def atomic_file(path: Path, mode: str = "wb", expected_bytes: int = 0) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and put it in place when the block ends without an error.

    Args:
        path: File to replace or create; its folder must exist.
        mode: ``"wb"`` or ``"w"`` (UTF-8).
        expected_bytes: Size of the whole file if known; only used in the message about a full disk.

    Raises:
        OSError: the file cannot be written; the previous content of ``path`` is untouched and no temporary file is
            left. A full disk names the path and the bytes needed and free.
    """
    if mode not in {"wb", "w"}:
        raise ValueError(f"mode must be 'wb' or 'w', not {mode!r}")
    temp = temporary_path(path)
    written = 0
    try:
        with temp.open(mode, encoding=None if mode == "wb" else "utf-8") as stream:
            try:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            finally:
                with suppress(OSError, ValueError):
                    written = os.fstat(stream.fileno()).st_size
        temp.replace(path)
    except OSError as error:
        explained = explain_full_disk(error, path, max(written, expected_bytes))
        temp.unlink(missing_ok=True)
        if explained is error:
            raise
        raise explained from error
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON, atomically. NaN and infinity are refused (ValueError): they are not JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_file(path, "w") as stream:
        stream.write(text)


def publish_directory(temp: Path, final: Path) -> None:
    """Make the finished folder ``temp`` appear as ``final`` in one step, with everything in it on disk.

    Raises:
        FileExistsError: ``final`` is already there and not empty.
    """
    for folder, _, names in os.walk(temp):
        for name in names:
            descriptor = os.open(Path(folder) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))
    try:
        temp.rename(final)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise FileExistsError(errno.EEXIST, "already published", str(final)) from error
        raise
    sync_directory(final.parent)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder; what is already gone is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sweep_orphans(folder: Path, older_than_s: float = 86400.0, name: str = "") -> list[Path]:
    """Remove temporary files and folders that killed processes left in ``folder``; returns what was removed.

    Args:
        folder: Looked at without descending.
        older_than_s: Younger ones may still be in use. 0 is safe only for a caller that holds the lock of ``name``.
        name: Only temporaries of this final name; "" for all.
    """
    limit = time.time() - older_than_s
    removed = []
    for path in sorted(folder.glob(f".{name}*{_SUFFIX}") if not name else folder.glob(f".{name}.*{_SUFFIX}")):
        try:
            young = path.lstat().st_mtime > limit
        except OSError:
            continue
        if not young:
            remove(path)
            removed.append(path)
    return removed
