"""A terminal, a clock and a summary to test the reports with."""

from __future__ import annotations

import io

import pytest

from recexp.reports.console import MetricRow, RunSummary


class FakeTerminal(io.StringIO):
    """Claims to be a terminal; after ``hang_up`` every write fails as on a closed pipe."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.hung_up = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.hung_up:
            raise BrokenPipeError
        self.writes += 1
        return super().write(text)


class FakeClock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> FakeTerminal:
    """A terminal of 120 columns, outside of any CI."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return FakeTerminal()


@pytest.fixture
def now() -> FakeClock:
    return FakeClock()


@pytest.fixture
def summary() -> RunSummary:
    return RunSummary(
        title={"model": "attrec", "dataset": "ml1m_synthetic", "device": "cpu", "precision": "fp32", "seed": "1"},
        synthetic=True,
        metrics=[
            MetricRow("test/hr_at_50", 0.41234, 0.1399, "whole catalogue, fair ties"),
            MetricRow("test/hr_at_10_sampled101", float("nan"), 0.4715, "101 sampled items"),
            MetricRow("test/loss", float("inf")),
            MetricRow("test/gain", -0.5, 0.0, "whole catalogue, fair ties"),
        ],
        best=("val/hr_at_50", 0.42, 4600),
        performance={
            "perf/examples_per_s": 84321.4,
            "perf/step_ms_p50": 6.1,
            "perf/data_wait_share": 0.0123,
            "perf/x": 2.5,
        },
        seconds={"training": 125.2, "total": 9.04},
        places={"run": "/r/001", "checkpoint": "/r/001/best.ckpt", "MLflow": "run 12 in sqlite:///x.db"},
        notes=["3 points were not delivered.\nRun task=sync."],
    )
