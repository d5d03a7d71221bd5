"""Shows how far a run is, on stderr: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TextIO

from recexp.reports.canvas import Bar, Field, Lines
from recexp.reports.terminal import clock, compact, duration, interactive

MODES = ("auto", "bar", "lines", "off")
#: Seconds over which the shown speed is smoothed.
_MEMORY_S = 5.0
_METRICS_PER_LINE = 3


class Progress:
    """Shows preparation (``task``) and training (``start``, ``update``, ``loss``, ``epoch``).

    Nothing here raises because of the stream; a closed one ends the display. Used as a context manager, or closed with
    ``stop``, it leaves the terminal clean.
    """

    def __init__(
        self,
        mode: str = "auto",
        stream: TextIO | None = None,
        *,
        monitor: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            mode: ``bar``, ``lines``, ``off``, or ``auto``: a bar where a person watches a terminal, else lines.
            stream: Default: stderr; stdout is for results.
            monitor: The metric that is shown first; default: the first one that comes. May be set later.
            now: Clock in seconds.

        Raises:
            ValueError: There is no such mode.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        out = sys.stderr if stream is None else stream
        if out is None or mode == "off":
            self._canvas: Lines | None = None
        else:
            bar = mode == "bar" or (mode == "auto" and interactive(out))
            self._canvas = Bar(out) if bar else Lines(out)
        self.monitor = monitor
        self._now = now
        self._next = math.inf
        self._task: _Task | None = None
        self._training = False
        self._reset(0, 0, 0.0)

    def _reset(self, total: int, done: int, now: float) -> None:
        self._total, self._done, self._done_before = total, done, done
        self._began = self._mark = self._seen = now
        self._rows = 0
        self._rate = math.nan
        self._loss: float | None = None
        self._metrics: dict[str, float] = {}
        self._epochs = 0
        self._per_epoch = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def task(self, description: str, done: int, total: int | None = None) -> None:
        """Show a piece of preparation, from its first call on until ``done`` reaches ``total`` or another one begins.

        Args:
            description: What is done.
            done: How much of it, in bytes or rows.
            total: How much there is; None: unknown.
        """
        if self._canvas is None:
            return
        now = self._now()
        task = self._task
        if task is None or task.description != description:
            self._end_task(now)
            # What does not say how long it takes might not say anything again: it is shown at once.
            task = self._task = _Task(description, now)
            self._next = now + (self._canvas.first_s if total is not None else 0.0)
        task.done, task.total = done, total
        if total is not None and done >= total:
            self._end_task(now)
        elif now >= self._next:
            task.shown = True
            self._draw(now, task.share(), task.fields(now))

    def _end_task(self, now: float) -> None:
        task, self._task = self._task, None
        if task is not None and task.shown and self._canvas is not None:
            amount = f"  {compact(task.done)}" if task.done else ""
            self._canvas.say(f"{task.description}{amount}  in {duration(now - task.began)}")

    def start(self, total_updates: int, done: int = 0, epochs: int | None = None) -> None:
        """Training begins, or goes on after ``done`` updates. ``epochs`` lets the first one be numbered."""
        if self._canvas is None:
            return
        now = self._now()
        self._end_task(now)
        self._reset(total_updates, done, now)
        self._training = True
        if epochs and total_updates:
            self._epochs, self._per_epoch = epochs, total_updates / epochs
        if self._canvas.moving:
            self._draw(now, self._share(), self._fields(now))
        else:
            before = f", {done:,} of them done before" if done else ""
            self._canvas.say(f"training: {total_updates:,} updates{before}")
            self._next = now + self._canvas.interval_s

    def update(self, done_updates: int, rows: int) -> None:
        """So many updates are done in all; ``rows`` examples were added. Costs about a microsecond."""
        now = self._seen = self._now()
        self._done = done_updates
        self._rows += rows
        if now >= self._next and self._training:
            self._measure(now)
            self._draw(now, self._share(), self._fields(now))

    def loss(self, value: float) -> None:
        """The latest training loss; shown with the next line."""
        self._loss = value

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """A validation is over, after epoch ``number`` of ``of`` (0: not known); its time is no training time."""
        if self._canvas is None or not self._training:
            return
        now = self._now()
        self._measure(self._seen)
        self._mark = self._seen = now
        self._metrics = dict(metrics)
        self._epochs = max(of, 0)
        if number > 0:
            self._per_epoch = self._done / number
        if self._canvas.moving:
            if now >= self._next:
                self._draw(now, self._share(), self._fields(now))
        else:
            self._canvas.say("  ".join(text for _, text in self._fields(now, number)))
            self._next = now + self._canvas.interval_s

    def stop(self) -> None:
        """End the display; a line says how far the training came. May be called again, and before ``start``."""
        canvas = self._canvas
        self._next = math.inf
        if canvas is None:
            return
        now = self._now()
        self._end_task(now)
        if self._training:
            self._training = False
            self._measure(self._seen)
            speed = f", {self._rate:,.0f} examples/s at the end" if math.isfinite(self._rate) else ""
            canvas.say(f"trained {self._done:,} of {self._total:,} updates in {duration(now - self._began)}{speed}")
        canvas.close()

    def _draw(self, now: float, share: float | None, fields: list[Field]) -> None:
        if self._canvas is not None:
            self._canvas.draw(share, fields)
            self._next = math.inf if self._canvas.closed else now + self._canvas.interval_s

    def _measure(self, now: float) -> None:
        seconds = now - self._mark
        if seconds > 0 and self._rows:
            rate = self._rows / seconds
            keep = math.exp(-seconds / _MEMORY_S) if math.isfinite(self._rate) else 0.0
            self._rate = rate if keep == 0.0 else keep * self._rate + (1 - keep) * rate
            self._mark, self._rows = now, 0

    def _share(self) -> float:
        return min(max(self._done / self._total, 0.0), 1.0) if self._total > 0 else 1.0

    def _left(self, now: float) -> float:
        """Seconds to go; validations weigh as much as they did until now."""
        fresh = self._done - self._done_before
        if fresh <= 0:
            return math.nan
        return max(self._total - self._done, 0) * (now - self._began) / fresh

    def _fields(self, now: float, ended_epoch: int = 0) -> list[Field]:
        moving = self._canvas is not None and self._canvas.moving
        fields: list[Field] = []
        number = ended_epoch or self._epoch_number()
        if number:
            fields.append((3, f"epoch {number}/{self._epochs}" if self._epochs else f"epoch {number}"))
        if not moving:
            fields.append((9, f"update {self._done:,}/{self._total:,}"))
        if self._loss is not None:
            fields.append((1, f"loss {self._loss:.4f}"))
        for name, value in self._chosen_metrics(1 if moving else _METRICS_PER_LINE):
            fields.append((2, f"{name.removeprefix('val/') if moving else name} {value:.4f}"))
        if math.isfinite(self._rate):
            fields.append((4, f"{compact(self._rate) if moving else format(self._rate, ',.0f')} examples/s"))
        return [*fields, (0, f"{clock(self._left(now))} left")]

    def _epoch_number(self) -> int:
        """The epoch that is going on; 0 where that is not known."""
        if self._per_epoch <= 0:
            return 0
        number = int(self._done / self._per_epoch + 1e-9) + 1
        return min(number, self._epochs) if self._epochs else number

    def _chosen_metrics(self, count: int) -> list[tuple[str, float]]:
        items = sorted(self._metrics.items(), key=lambda item: item[0] != self.monitor)
        return items[:count]


class _Task:
    """A piece of preparation that is going on."""

    def __init__(self, description: str, began: float) -> None:
        self.description, self.began = description, began
        self.done = 0
        self.total: int | None = None
        self.shown = False

    def share(self) -> float | None:
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else None

    def fields(self, now: float) -> list[Field]:
        if self.total is None:
            return [(0, f"{self.description} ..." if not self.done else f"{self.description}  {compact(self.done)}")]
        passed = now - self.began
        left = passed * (self.total - self.done) / self.done if self.done else math.nan
        amount = f"{compact(self.done)}/{compact(self.total)}"
        return [(0, self.description), (2, amount), (1, f"{clock(left)} left")]
