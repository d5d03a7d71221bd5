"""The result of a run: kept in its directory as plain JSON, and shown as a table."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recexp.reports.console import MetricRow, RunSummary, show
from recexp.storage.atomic import write_json

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Measured:
    """What a training or an evaluation found.

    Attributes:
        test: Metrics by full name.
        floor: The same of a trivial model, where computed.
        best: The metric that picked the checkpoint, its value (None where nothing was validated), its update; None
            where nothing was picked and the last state was tested.
        performance: ``perf/`` metrics.
        seconds: Durations by name.
        checkpoint: That was tested.
        stopped_early: Before the configured end.
        updates: Done in all.
    """

    test: dict[str, float]
    floor: dict[str, float]
    best: tuple[str, float | None, int] | None
    performance: dict[str, float]
    seconds: dict[str, float]
    checkpoint: Path
    stopped_early: bool
    updates: int


@dataclass(frozen=True)
class Result:
    """The headline on the test users, and everything for the table."""

    headline: float | None
    summary: RunSummary


def metric_rows(measured: Measured, explanations: dict[str, str]) -> list[MetricRow]:
    """One row for each test metric."""
    return [
        MetricRow(name, value, measured.floor.get(name), explanations.get(name.removeprefix("test/"), ""))
        for name, value in measured.test.items()
    ]


def save(directory: Path, result: Result) -> Path:
    """Write the result; a number that is none (a diverged model) is kept as text."""
    path = directory / RESULT_FILE
    write_json(path, _plain({"headline": result.headline, "summary": dataclasses.asdict(result.summary)}))
    return path


def show_again(directory: Path) -> float | None:
    """Show the result of a finished run and return its headline."""
    content = json.loads((directory / RESULT_FILE).read_text("utf-8"))
    summary = content["summary"]
    summary["metrics"] = [MetricRow(**{k: _number(v) for k, v in row.items()}) for row in summary["metrics"]]
    summary["best"] = tuple(map(_number, summary["best"])) if summary["best"] else None
    for part in ("performance", "seconds"):
        summary[part] = {name: _number(value) for name, value in summary[part].items()}
    show(RunSummary(**summary))
    headline = _number(content["headline"])
    return headline if isinstance(headline, float) else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _number(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value
