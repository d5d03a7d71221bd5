"""The sender as a real process: kills of the training and of the sender, servers that are down, broken or slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recexp.config.settings import TrackingSettings
from recexp.tracking import delivered, journal, run_directory
from recexp.tracking.outcome import SYNC_COMMAND, outcome
from recexp.tracking.sender import drain
from recexp.tracking.store import resolve
from recexp.tracking.tracker import Tracker

Rows = Callable[..., list[tuple[Any, ...]]]
TRAINING = """
import os, sys, time
from pathlib import Path
from recexp.config.settings import TrackingSettings
from recexp.tracking import run_directory
from recexp.tracking.tracker import Tracker
path, root, first, last, end = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
with run_directory.claim(path):
    tracker = Tracker.open(path, TrackingSettings(), root)
    for step in range(first, last):
        tracker.metrics({"train/loss": 1 / step}, step)
    tracker.flush()
    if end == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        (path / "child").write_text(str(child))
    print("flushed", flush=True)
    if end in ("wait", "fork"):
        time.sleep(120)
    sys.exit(0 if tracker.finish(end).complete else 1)
"""


def _train(run_dir: Path, root: Path, first: int, last: int, end: str = "wait") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", TRAINING, str(run_dir), str(root), str(first), str(last), end]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"flushed\n"
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


def _until(condition: Callable[[], bool], patience_s: float = 40.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _sender(run_dir: Path) -> int:
    _until(lambda: "pid" in delivered.noted(run_dir))
    return int(delivered.noted(run_dir)["pid"])


def test_a_killed_training_is_delivered_and_marked(run_dir: Path, root: Path, rows: Rows) -> None:
    training = _train(run_dir, root, 1, 2001)
    sender = _sender(run_dir)
    os.kill(sender, signal.SIGINT)
    os.kill(sender, signal.SIGTERM)
    _kill(training)
    _until(lambda: outcome(run_dir).complete)
    assert run_directory.state(run_dir).status == "KILLED"
    assert rows("SELECT status FROM runs") == [("KILLED",)]
    assert rows("SELECT count(*) FROM metrics") == [(2000,)]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_child_that_outlives_the_training_does_not_hide_its_death(run_dir: Path, root: Path, rows: Rows) -> None:
    training = _train(run_dir, root, 1, 11, "fork")
    child = int((run_dir / "child").read_text())
    sender = _sender(run_dir)
    _until(lambda: delivered.noted(run_dir)["state"] == "ready")
    _kill(training)
    _until(lambda: not _is_there(sender), 15.0)
    assert _is_there(child), "it holds the pipe and the claim"
    assert rows("SELECT count(*) FROM metrics") == [(10,)]
    os.kill(child, signal.SIGKILL)
    _until(lambda: not run_directory.is_alive(run_dir))
    assert drain(run_dir, resolve(None, root)) is None
    assert rows("SELECT status FROM runs") == [("KILLED",)]


def test_both_killed_and_resumed_nothing_twice_nothing_lost(run_dir: Path, root: Path, rows: Rows) -> None:
    training = _train(run_dir, root, 1, 1001)
    os.kill(_sender(run_dir), signal.SIGKILL)
    _kill(training)
    assert run_directory.state(run_dir).status == "RUNNING"
    resumed = _train(run_dir, root, 501, 1501, "FINISHED")
    assert resumed.wait(60) == 0
    resumed.stdout.close()
    assert rows("SELECT status FROM runs") == [("FINISHED",)]
    found = rows("SELECT step, value FROM metrics ORDER BY step")
    assert found == [(step, 1 / step) for step in range(1, 1501)]


class _Server(ThreadingHTTPServer):
    """Stands in for a sick MLflow server: answers 500 to everything, after ``delay`` seconds."""

    daemon_threads = True
    delay = 0.0
    asked = 0


class _Sick(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked += 1
        time.sleep(self.server.delay)
        with suppress(OSError):
            self.send_error(500)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def sick() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Sick) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_a_sick_server_delays_the_end_by_the_time_limit_only(
    run_dir: Path, root: Path, sick: _Server, delay: float
) -> None:
    sick.delay = delay
    uri = f"http://me:secret@127.0.0.1:{sick.server_port}"
    with run_directory.claim(run_dir):
        began = time.perf_counter()
        tracker = Tracker.open(run_dir, TrackingSettings(uri=uri, drain_timeout=1.0), root)
        for step in range(1000):
            tracker.metrics({"train/loss": 1.0}, step)
        assert time.perf_counter() - began < 20
        _until(lambda: sick.asked > 0)
        began = time.perf_counter()
        result = tracker.finish("FINISHED")
        assert time.perf_counter() - began < 60
    assert result.undelivered == 1000
    assert SYNC_COMMAND in " ".join(result.notes)
    assert not (run_dir / delivered.REJECTED_FILE).exists()
    assert len(journal.points(run_dir)["train/loss"]) == 1000
    for file in run_dir.rglob("*"):
        assert file.is_dir() or b"secret" not in file.read_bytes(), file


def test_no_waiting_at_all_if_none_is_wanted(run_dir: Path, root: Path) -> None:
    with run_directory.claim(run_dir):
        settings = TrackingSettings(uri="http://127.0.0.1:9", drain_timeout=0.0)
        tracker = Tracker.open(run_dir, settings, root)
        tracker.metrics({"train/loss": 1.0}, 1)
        began = time.perf_counter()
        result = tracker.finish("FINISHED")
    assert time.perf_counter() - began < 20
    assert result.undelivered == 1


def test_the_cost_of_a_point_on_the_training_thread(run_dir: Path) -> None:
    with run_directory.claim(run_dir):
        tracker = Tracker(run_dir, target=None)
        points = {"train/loss": 0.5, "train/positive": 0.25}
        began = time.perf_counter()
        for step in range(5000):
            tracker.metrics(points, step)
        cost = (time.perf_counter() - began) / 5000
        tracker.finish("FINISHED")
    assert cost < 100e-6


def test_a_damaged_note_of_the_sender_does_no_harm(run_dir: Path) -> None:
    (run_dir / delivered.SENDER_FILE).write_text("{")
    (run_dir / run_directory.DELIVERED_FILE).write_text(json.dumps({"run_id": "x"}))
    assert delivered.noted(run_dir) == {}
    assert delivered.Delivered.load(run_dir).offset == 0
