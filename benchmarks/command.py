"""What a user waits for: help, a mistake, the first step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, median_seconds


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """Wall times of whole commands, warm."""
    mistakes = ["model=attrek", "dataset=ml1n", "optim.lrr=1", "trainer.max_epochs=abc"]
    for name, words, goal in (
        ("--help", ["--help"], "goal: under 1.5 s"),
        ("four mistakes", mistakes, "goal: under 1.5 s"),
    ):
        _command(words)
        yield Row(name, f"{median_seconds(lambda words=words: _command(words), rounds):.2f} s", goal)
    yield Row("command to first step", f"{_first_step(folder):.1f} s", "goal: under 12 s")


def _command(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "recexp", *words], capture_output=True, check=False)


def _first_step(folder: Path) -> float:
    words = ["device=cpu", "trainer.max_steps=64", "trainer.limit_eval_users=100", "problem.floor=false"]
    for dataset in ("ml1m", "ml1m_synthetic"):
        for _ in range(2):
            _command([*words, f"paths.root={folder}/first-{dataset}", f"dataset={dataset}"])
        found = sorted(folder.glob(f"first-{dataset}/runs/*/*/result.json"))
        if found:
            performance = json.loads(found[-1].read_text())["summary"]["performance"]
            return float(performance["perf/time_to_first_step_s"])
    raise RuntimeError("no run came to its first step")
