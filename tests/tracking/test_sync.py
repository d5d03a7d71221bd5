"""``task=sync``: what is left of each run is delivered, living runs are left alone, trouble is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recexp.config.compose import compose
from recexp.errors import TrackingError
from recexp.tasks import sync
from recexp.tracking import run_directory, store
from recexp.tracking.tracker import Tracker

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def config(root: Path) -> dict[str, Any]:
    return compose(["task=sync", f"paths.root={root}"])


def _spool(root: Path, uri: str | None, points: int) -> Path:
    run_dir = run_directory.create(root, "a")
    store.of_run(run_dir, store.resolve(uri, root))
    with run_directory.claim(run_dir):
        tracker = Tracker(run_dir, target=None)
        for step in range(points):
            tracker.metrics({"train/loss": 1.0}, step)
        tracker.finish("FINISHED")
    return run_dir


def test_what_is_left_is_delivered_once(
    root: Path, config: dict[str, Any], rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    _spool(root, None, 3)
    _spool(root, None, 4)
    with run_directory.claim(run_directory.create(root, "off")) as claim:
        Tracker(claim.path, target=None).finish("FINISHED")
    sync.run(config)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("a/001: delivered 3 points")
    assert said[1].startswith("a/002: delivered 4 points")
    assert said[2].startswith("2 runs")
    sync.run(config)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert rows("SELECT count(*) FROM metrics") == [(7,)]
    assert rows("SELECT status FROM runs") == [("FINISHED",)] * 2


def test_living_runs_are_left_alone(root: Path, config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = _spool(root, None, 3)
    with run_directory.claim(run_dir):
        sync.run(config)
    assert "still running" in capsys.readouterr().out


def test_a_store_that_does_not_answer_is_an_error_but_holds_nothing_up(
    root: Path, config: dict[str, Any], rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    _spool(root, "http://127.0.0.1:9", 3)
    _spool(root, "http://127.0.0.1:9", 3)
    _spool(root, None, 5)
    with pytest.raises(TrackingError, match="2 of 3 runs"):
        sync.run(config)
    assert "3 points, " in capsys.readouterr().out
    assert rows("SELECT count(*) FROM metrics") == [(5,)]
