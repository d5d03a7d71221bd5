"""Ctrl-C and SIGTERM: inside the training loop they wait for a safe point, elsewhere they stop at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from recexp.errors import RecexpError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(RecexpError):
    """The run was asked to stop; the exit code is the shell's for that signal (130, 143)."""

    def __init__(self, number: int, advice: str = "") -> None:
        self.exit_code = 128 + number
        super().__init__(f"Stopped by {signal.Signals(number).name}.{' ' + advice if advice else ''}")


class StopRequest:
    """Whether a signal came. While ``deferring``, the first one only sets ``number``; a second one raises."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.deferring = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self.deferring and self.number is None:
            self.number = number
            return
        raise Interrupted(number)

    def install(self) -> None:
        """Take the signals; again after Lightning has installed its own handlers."""
        for number in SIGNALS:
            signal.signal(number, self.handle)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle the signals while the block runs. Outside of the main thread there are none to handle."""
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        request.install()
    except ValueError:
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
