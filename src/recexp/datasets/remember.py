"""The sha256 of a source, kept by (path, size, time of change), so that a second start need not read the source."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recexp.errors import DataError
from recexp.storage.atomic import write_json

_SETTLED_NS = 2_000_000_000


def remembered_sha256(path: Path, part: str, cache: Path, compute: Callable[[], str]) -> str:
    """sha256 of ``part`` of the file ``path`` ("" for all of it), computed only where it is not known.

    A file changed less than two seconds ago is not remembered: it could change again within the resolution of its
    time stamp. A cache that cannot be written costs only the time to compute.

    Raises:
        DataError: the file cannot be read, or whatever ``compute`` raises.
    """
    absolute = str(path.absolute())
    stamp = [absolute, part, *stamp_of(path)]
    name = hashlib.sha256(f"{absolute}\0{part}".encode(errors="surrogateescape")).hexdigest()[:32]
    note = cache / "sources" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["stamp"] == stamp:
            return str(known["sha256"])
    sha256 = compute()
    if stamp[2:] == list(stamp_of(path)) and time.time_ns() - path.stat().st_mtime_ns > _SETTLED_NS:
        with suppress(OSError, UnicodeEncodeError):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, {"stamp": stamp, "sha256": sha256})
    return sha256


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change, which differ after almost any change.

    Raises:
        DataError: the file cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return found.st_size, found.st_mtime_ns
