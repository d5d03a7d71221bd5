"""A lock between processes that says who holds it, and that a dead process cannot keep."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from recexp.errors import RecexpError

_log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, purpose: str, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs. Not re-entrant.

    The operating system drops the lock when its process ends, however it ends, so nothing has to be cleaned up after
    a kill. A note beside the lock (``<path>.holder``) names the holder for those who wait.

    Args:
        path: Lock file; created if need be, and left in place.
        purpose: What is done under the lock, for the people who wait for it.
        timeout: Seconds to wait; None waits for ever, 0 tries once.

    Raises:
        RecexpError: the lock was not free in time; the message names the holder and what to do.
        OSError: the lock file cannot be created.
    """
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if timeout is None or timeout > 0:
            _log.info("waiting for %s, which is held by %s", path, _describe(path))
        _wait(lock, path, timeout)
    note = path.with_name(path.name + ".holder")
    try:
        _write_note(note, purpose)
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def _wait(lock: filelock.BaseFileLock, path: Path, timeout: float | None) -> None:
    started = time.monotonic()
    try:
        lock.acquire(timeout=-1 if timeout is None else timeout, poll_interval=0.05)
    except filelock.Timeout:
        raise RecexpError(
            f"{path} was still locked after {time.monotonic() - started:.0f} s. It is held by {_describe(path)}. "
            f"Wait for that process or end it: the lock is free as soon as it is gone. If that process is gone and "
            f"was on another host (a shared file system may keep its lock), delete the lock file and start again."
        ) from None


def _write_note(note: Path, purpose: str) -> None:
    """The note is a courtesy: a folder that takes no more files must not stop the holder."""
    command = re.sub(r"//[^/@\s]*@", "//", " ".join(sys.argv))[:300]
    content = {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "purpose": purpose}
    with suppress(OSError):
        note.write_text(json.dumps(content), encoding="utf-8")


def holder(path: Path) -> dict[str, Any] | None:
    """The note of who holds (or last held, if it was killed) the lock: pid, host, command, purpose."""
    try:
        content = json.loads(path.with_name(path.name + ".holder").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _describe(path: Path) -> str:
    note = holder(path)
    if note is None:
        return "a process that left no note"
    host = note.get("host")
    where = "this host" if host == socket.gethostname() else f"host {host}"
    return f"process {note.get('pid')} on {where} ({note.get('command')}), which does: {note.get('purpose')}"
