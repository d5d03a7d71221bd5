"""What a run has to say at its end, as plain values, and those values in words."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from recexp.reports.terminal import duration
from recexp.tracking.names import scrub

SYNTHETIC = "SYNTHETIC DATA: generated, not real; these numbers say nothing about real users"
#: Heading of each metric's row.
COLUMNS = ("metric", "value", "floor", "vs floor", "protocol")
_PERFORMANCE = {
    "perf/examples_per_s": ("throughput", "{:,.0f} examples/s"),
    "perf/step_ms_p50": ("step, median", "{:.3f} ms"),
    "perf/step_ms_p95": ("step, 95th percentile", "{:.3f} ms"),
    "perf/data_wait_share": ("waiting for data", "{:.1%} of the time"),
    "perf/peak_memory_mib": ("peak memory", "{:,.0f} MiB"),
    "perf/time_to_first_step_s": ("command to first step", "{:.1f} s"),
}
_PLACES = {"run": "run directory", "checkpoint": "best checkpoint"}


@dataclass(frozen=True)
class MetricRow:
    """A test metric.

    Attributes:
        name: Full name, ``test/hr_at_10``.
        value: Of the model; may be NaN or infinite.
        floor: Of a trivial model, None where it was not computed.
        protocol: How it was measured, in words.
    """

    name: str
    value: float
    floor: float | None = None
    protocol: str = ""


@dataclass(frozen=True)
class RunSummary:
    """Everything that the table at the end of a run shows.

    Attributes:
        title: What ran: model, dataset, device, precision, seed, each by its word.
        synthetic: The data is generated; said prominently.
        metrics: Test metrics.
        best: Metric that picked the checkpoint, its value (None: nothing was validated), the update.
        performance: ``perf/`` metrics.
        seconds: Durations by name.
        places: Where everything lies, by name.
        notes: What else the user should know.
    """

    title: dict[str, str]
    synthetic: bool
    metrics: list[MetricRow]
    best: tuple[str, float | None, int] | None = None
    performance: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def cells(row: MetricRow) -> tuple[str, str, str, str, str]:
    """The row's texts in the order of ``COLUMNS``."""
    floor = "-" if row.floor is None else f"{row.floor:.4f}"
    # A standard error is no achievement.
    against = "-" if row.name.endswith("_se") else _against(row.value, row.floor)
    return row.name, f"{row.value:.4f}", floor, against, row.protocol or "-"


def _against(value: float, floor: float | None) -> str:
    """How many times the floor; the distance from a floor that is no scale (zero or negative)."""
    if floor is None or not (math.isfinite(value) and math.isfinite(floor)):
        return "-"
    return f"{value / floor:.2f}x" if floor > 0 and abs(value / floor) < 1e4 else f"{value - floor:+.4f}"


def facts(summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Everything below the metrics, as (label, text)."""
    if summary.best is not None:
        name, value, step = summary.best
        shown = f"{name} {value:.4f} after" if value is not None else "no validation; checkpoint of"
        yield "best validation", f"{shown} {step:,} updates"
    for name, number in summary.performance.items():
        label, form = _PERFORMANCE.get(name, (name, "{:.4g}"))
        yield label, form.format(number)
    for name, number in summary.seconds.items():
        yield f"time, {name}", duration(number)
    for name, place in summary.places.items():
        label = "last checkpoint" if name == "checkpoint" and summary.best is None else _PLACES.get(name, name)
        yield label, place
    for note in summary.notes:
        yield "note", note


def ui_command(uri: str) -> str:
    """How to look at the runs of a tracking store; credentials in its address are left out."""
    shown = scrub(uri)
    if shown.startswith(("http://", "https://")):
        return f"open {shown}"
    return f"make ui   (or: mlflow ui --host 127.0.0.1 --backend-store-uri {shlex.quote(shown)})"
