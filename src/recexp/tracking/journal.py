"""The append-only journal of a run: every event is a JSON line on disk before anything is sent anywhere."""

from __future__ import annotations

import json
import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recexp.errors import TrackingError

JOURNAL_FILE = "journal.jsonl"
Event = dict[str, Any]


def encode(event: Mapping[str, Any]) -> bytes:
    """One event as a line. Floats keep every bit; NaN and the infinities become strings."""
    if event["e"] == "metrics":
        points = {key: _encode_value(value) for key, value in event["m"].items()}
        event = {**event, "m": points}
    return json.dumps(event, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _encode_value(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def decode(line: bytes) -> Event:
    """The event of a line.

    Raises:
        ValueError: The line is damaged.
    """
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("e"), str):
        raise ValueError("a journal line is an object with a kind")
    if event["e"] == "metrics":
        event["m"] = {key: float(value) for key, value in event["m"].items()}
    return event


def read(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Events from byte ``offset`` on, each with the offset behind it. A torn last line is left alone.

    A damaged line in the middle comes as an event of kind ``damaged``.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield decode(line), offset
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                yield {"e": "damaged", "error": str(error), "text": line[:200].decode("ascii", "replace")}, offset


def points(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """All recorded points of a run: metric name to (step, value), in the order of recording."""
    series: dict[str, list[tuple[int, float]]] = {}
    for event, _ in read(run_dir / JOURNAL_FILE):
        if event["e"] == "metrics":
            for key, value in event["m"].items():
                series.setdefault(key, []).append((event["step"], value))
    return series


@dataclass
class History:
    """What a journal already holds when it is opened again."""

    marks: dict[str, int] = field(default_factory=dict)
    values: dict[tuple[str, int], float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    inputs: set[tuple[str, str]] = field(default_factory=set)
    created: bool = False

    def add(self, event: Event) -> None:
        """Take one event into account."""
        kind = event["e"]
        if kind == "metrics":
            for key, value in event["m"].items():
                self.marks[key] = max(event["step"], self.marks.get(key, event["step"]))
                self.values[key, event["step"]] = value
        elif kind == "params":
            self.params.update(event["params"])
        elif kind == "dataset":
            self.inputs.add((event["name"], event["digest"]))
        elif kind == "create":
            self.created = True


class Journal:
    """Appends events. ``append`` costs a list append; ``flush`` writes all waiting lines with one system call."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / JOURNAL_FILE
        self.history = History()
        self._waiting: deque[Event] = deque()
        self._unwritten = b""
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise TrackingError(f"Cannot open the run's journal {self.path}: {error}") from error
        end = 0
        for event, behind in read(self.path):
            self.history.add(event)
            end = behind
        os.ftruncate(self._descriptor, end)

    def append(self, event: Event) -> None:
        """Queue an event; it is on disk after the next ``flush``."""
        self._waiting.append(event)

    def flush(self, *, durable: bool = False) -> None:
        """Write what waits.

        Args:
            durable: Also wait until the disk has it (a power cut then loses nothing).

        Raises:
            TrackingError: The disk is full or gone; what waits is kept and written by a later call.
        """
        with self._lock:
            lines = []
            while self._waiting:
                lines.append(encode(self._waiting.popleft()))
            self._unwritten += b"".join(lines)
            try:
                self._write()
                if durable:
                    os.fdatasync(self._descriptor)
            except OSError as error:
                raise TrackingError(
                    f"Cannot write {len(self._unwritten)} bytes to the run's journal {self.path}: {error}. "
                    "Free some space and go on with resume=true."
                ) from error

    def _write(self) -> None:
        if not self._unwritten:
            return
        before = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, self._unwritten)
        if written != len(self._unwritten):
            os.ftruncate(self._descriptor, before)
            raise OSError(f"only {written} of {len(self._unwritten)} bytes fitted on the disk")
        self._unwritten = b""

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush(durable=True)
        os.close(self._descriptor)
