"""Medians of paired rounds: this machine's speed drifts, the ratio of two neighbours in time does not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: str
    goal: str = ""


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of each, and the median of the ratios other / one, after one round that does not count."""
    one(), other()
    times = [(seconds(one), seconds(other)) for _ in range(rounds)]
    ratio = statistics.median(b / a for a, b in times)
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times), ratio


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """Median wall time."""
    return statistics.median(seconds(work) for _ in range(rounds))
