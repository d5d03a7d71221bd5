"""The tracker: what reaches the journal, once, whatever is resumed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.tracking import journal
from recexp.tracking.tracker import Silent, Tracker

Open = Callable[[], Tracker]


def _events(run_dir: Path, kind: str) -> list[journal.Event]:
    return [event for event, _ in journal.read(run_dir / journal.JOURNAL_FILE) if event["e"] == kind]


def test_a_resumed_run_records_no_point_twice(journalled: Open, run_dir: Path) -> None:
    first = journalled()
    for step in range(1, 6):
        first.metrics({"train/loss": 1 / step}, step)
    first.finish("KILLED")
    second = journalled()
    for step in range(3, 8):
        second.metrics({"train/loss": 1 / step, "val/new": 1.0}, step)
    second.finish("FINISHED")
    points = journal.points(run_dir)
    assert points["train/loss"] == [(step, 1 / step) for step in range(1, 8)]
    assert [step for step, _ in points["val/new"]] == [3, 4, 5, 6, 7]
    assert [event["e"] for event, _ in journal.read(run_dir / journal.JOURNAL_FILE) if "uuid" in event] == [
        "create",
        "resume",
    ]


def test_another_value_at_a_known_point_is_told_once(
    journalled: Open, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = journalled()
    first.metrics({"train/loss": 1.0, "perf/ms": 1.0, "train/nan": float("nan")}, 1)
    first.metrics({"train/loss": 1.0}, 2)
    first.finish("KILLED")
    with caplog.at_level(logging.WARNING):
        second = journalled()
        second.metrics({"perf/ms": 2.0, "train/nan": float("nan")}, 1)
        assert not caplog.messages
        second.metrics({"train/loss": 1.5}, 1)
        second.metrics({"train/loss": 1.5}, 2)
        second.finish("FINISHED")
    assert [m for m in caplog.messages if "not deterministic" in m] == caplog.messages[:1]
    assert "train/loss at step 1 was 1.0" in caplog.messages[0]
    assert journal.points(run_dir)["train/loss"] == [(1, 1.0), (2, 1.0)]


def test_long_and_changed_parameters_lose_nothing(journalled: Open, run_dir: Path) -> None:
    tracker = journalled()
    tracker.params({"short": 1, "long": "ü" * 6001, "uri": "http://u:p@h"})
    tracker.finish("KILLED")
    again = journalled()
    again.params({"short": 2, "long": "ü" * 6001})
    again.finish("FINISHED")
    (event,) = _events(run_dir, "params")
    assert event["params"]["short"] == "1"
    assert event["params"]["uri"] == "http://h"
    assert (run_dir / "params" / "long.txt").read_text("utf-8") == "ü" * 6001
    assert "params/long.txt" in event["params"]["long"]
    assert {"e": "tags", "tags": {"changed.short": "2"}} in _events(run_dir, "tags")


def test_an_illegal_name_is_refused_where_it_is_used(journalled: Open) -> None:
    with pytest.raises(ValueError, match="'val/hr@10'"):
        journalled().metrics({"val/hr@10": 1.0}, 1)


def test_flush_is_on_disk_when_it_returns(journalled: Open, run_dir: Path) -> None:
    tracker = journalled()
    tracker.metrics({"train/loss": 1.0}, 1)
    tracker.flush()
    assert journal.points(run_dir) == {"train/loss": [(1, 1.0)]}


def test_off_reports_off(journalled: Open) -> None:
    outcome = journalled().finish("FINISHED")
    assert (outcome.backend, outcome.place, outcome.notes) == ("off", None, ())
    assert Silent().finish("FINISHED").notes == ()


def test_the_training_process_imports_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys, recexp.tracking.tracker, recexp.tracking.provenance, recexp.tasks.sync\n"
        "assert not {'torch', 'mlflow', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
