"""What a stream can show: whether a person watches it, how wide it is, and text that is safe to print there."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping
from typing import TextIO

_BLANKS = re.compile(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_SAID_NO = {"", "0", "false", "no"}
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def interactive(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether colours and moving lines make sense: a terminal that is not dumb, and no CI."""
    environ = os.environ if environ is None else environ
    if environ.get("CI", "").lower() not in _SAID_NO or environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def width(stream: TextIO) -> int:
    """Columns of the stream's terminal; where it is none, of COLUMNS or 80."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        columns = 0
    return columns or shutil.get_terminal_size().columns


def one_line(text: object, stream: TextIO | None = None) -> str:
    """The text on one line, with escapes for what would move the cursor or what the stream cannot encode."""
    line = _BLANKS.sub(" ", str(text))
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def duration(seconds: float) -> str:
    """A time in words: ``12.3 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if not math.isfinite(seconds) or abs(seconds) < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if abs(whole) < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """A time as on a clock: ``0:07``, ``12:34``, ``1:02:03``; ``?`` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    minutes = f"{whole // 60}" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d}"
    return f"{minutes}:{whole % 60:02d}"


def compact(number: float) -> str:
    """A number of three digits with its unit: ``812``, ``84.3k``, ``5.92M``."""
    for size, unit in _UNITS:
        if math.isfinite(number) and abs(number) >= size * 0.9995:
            return f"{number / size:#.3g}".rstrip(".") + unit
    return f"{number:.0f}"
