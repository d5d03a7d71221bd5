"""Draws progress: one line that is drawn anew on a terminal, plain lines elsewhere. A closed stream only ends it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from recexp.reports.terminal import one_line, width

#: A text and its importance: where a line is too long, those of the highest number are left out first.
Field = tuple[int, str]
_GAP = "  "
_BAR = (8, 40)
_FAILURES = (OSError, ValueError, RuntimeError)


class Lines:
    """Writes each state as a line of its own."""

    interval_s = 10.0
    first_s = 2.0
    moving = False

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.closed = False
        self._lock = threading.RLock()

    def draw(self, share: float | None, fields: Sequence[Field]) -> None:
        """Show a state: what part is done (None: unknown) and more in words."""
        percent = [] if share is None else [f"{share:4.0%}"]
        self.say(_GAP.join([*percent, *(text for _, text in fields)]))

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._write(f"{one_line(text, self.stream)}\n")

    def close(self) -> None:
        """Nothing is left behind."""

    def _write(self, text: str) -> None:
        with self._lock:
            if self.closed:
                return
            try:
                self.stream.write(text)
                self.stream.flush()
            except _FAILURES:
                self.closed = True


class Bar(Lines):
    """Draws the state over itself. The cursor stays visible and rests at the line's start.

    Whatever else is printed overwrites the bar; log lines clear it first.
    """

    interval_s = 0.25
    first_s = 0.3
    moving = True

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._drawn = False
        self._watched: list[logging.Handler] = []
        unicode = "utf" in (getattr(stream, "encoding", None) or "").lower()
        self._full, self._empty = ("\u2501", "\u2501") if unicode else ("#", ".")
        self._colours = ("\x1b[36m", "\x1b[2m", "\x1b[0m")
        if os.environ.get("NO_COLOR"):
            self._colours = ("", "", "")
            self._empty = "\u2500" if unicode else "."

    def draw(self, share: float | None, fields: Sequence[Field]) -> None:
        """Draw over what was drawn before."""
        with self._lock:
            if not self._drawn:
                self._watch()
            self._drawn = True
            self._write(f"\r\x1b[2K{self._line(share, fields, width(self.stream) - 1)}\r")

    def say(self, text: str) -> None:
        """Write a line that stays, in the place of the bar."""
        with self._lock:
            self.clear()
            super().say(text)

    def clear(self) -> None:
        """Take the bar away until it is drawn again."""
        with self._lock:
            if self._drawn:
                self._drawn = False
                self._write("\r\x1b[2K")

    def close(self) -> None:
        """Leave a clean line behind."""
        self.clear()
        for handler in self._watched:
            handler.removeFilter(self._before_log)
        self._watched = []

    def _line(self, share: float | None, fields: Sequence[Field], columns: int) -> str:
        percent = "" if share is None else f"{share:4.0%}{_GAP}"
        text = one_line(percent + _GAP.join(fit(fields, columns - len(percent))), self.stream)
        room = min(columns - cell_len(text) - 1, _BAR[1])
        if share is None or room < _BAR[0]:
            return set_cell_size(text, max(columns, 0)).rstrip()
        full = round(room * min(max(share, 0.0), 1.0))
        done, left, end = self._colours
        return f"{done}{self._full * full}{end}{left}{self._empty * (room - full)}{end} {text}"

    def _watch(self) -> None:
        """Have handlers that write to a terminal clear the bar before each log line."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler not in self._watched:
                with suppress(OSError, ValueError, AttributeError):
                    if handler.stream is self.stream or handler.stream.isatty():
                        handler.addFilter(self._before_log)
                        self._watched.append(handler)

    def _before_log(self, record: logging.LogRecord) -> bool:
        self.clear()
        return True


def fit(fields: Sequence[Field], columns: int) -> list[str]:
    """The texts that fit side by side, in order; the most important one stays in any case."""
    kept = list(fields)
    while len(kept) > 1 and sum(cell_len(text) + len(_GAP) for _, text in kept) - len(_GAP) > columns:
        kept.remove(max(kept, key=lambda item: item[0]))
    return [text for _, text in kept]
