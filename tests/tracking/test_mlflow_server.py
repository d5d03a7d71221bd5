"""A real MLflow server: down from the start, killed during a run, and the pages of ``make ui``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recexp.config.settings import TrackingSettings
from recexp.tracking import run_directory
from recexp.tracking.outcome import outcome
from recexp.tracking.sender import drain
from recexp.tracking.store import of_run, resolve
from recexp.tracking.tracker import Tracker

Rows = Callable[..., list[tuple[Any, ...]]]


class Server:
    """``python -m recexp.tracking.ui`` in a session of its own, so that all of its processes can be killed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "recexp.tracking.ui", "--root", str(self.root), "--port", str(self.port)]
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        with (self.root / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment, cwd=self.root
            )
        for _ in range(600):
            try:
                self.get("/health")
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail((self.root / "server.log").read_text())

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.uri + path, timeout=20) as answer:
            return answer.read()

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    server = Server(root)
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_gets_every_point_once(server: Server, run_dir: Path, rows: Rows) -> None:
    settings = TrackingSettings(uri=server.uri, drain_timeout=1.0)
    (run_dir / "config.yaml").write_text("a: 1\n")
    with run_directory.claim(run_dir):
        tracker = Tracker.open(run_dir, settings, server.root)
        tracker.params({"seed": 1})
        tracker.artifact(run_dir / "config.yaml")
        tracker.dataset("ml1m", "f" * 64, "here", "train")
        tracker.metrics({"train/loss": 1.0}, 0)
        server.start()
        for step in range(1, 4000):
            tracker.metrics({"train/loss": step * 0.1}, step)
            if step == 2000:
                deadline = time.monotonic() + 60
                while outcome(run_dir).run_id is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                assert outcome(run_dir).run_id
                server.kill()
        result = tracker.finish("FINISHED")
    assert result.undelivered >= 1999
    assert drain(run_dir, of_run(run_dir, resolve(server.uri, server.root)), attempts=1), "the server is down"
    server.start()
    assert drain(run_dir, of_run(run_dir, resolve(server.uri, server.root))) is None
    final = outcome(run_dir)
    assert final.complete
    assert not final.rejected
    assert rows("SELECT status FROM runs") == [("FINISHED",)]
    found = rows("SELECT step, value FROM metrics ORDER BY step")
    assert found == [(0, 1.0), *((step, step * 0.1) for step in range(1, 4000))]
    assert rows("SELECT count(*) FROM inputs") == [(1,)]
    assert final.place == f"{server.uri}/#/experiments/{final.experiment_id}/runs/{final.run_id}"
    run = json.loads(server.get(f"/api/2.0/mlflow/runs/get?run_id={final.run_id}"))["run"]
    assert run["data"]["params"] == [{"key": "seed", "value": "1"}]
    assert server.get(f"/get-artifact?run_uuid={final.run_id}&path=config.yaml") == b"a: 1\n"
    assert b"MLflow" in server.get("/")


def test_the_pages_are_for_this_machine_only(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "recexp.tracking.ui", "--root", str(root)]
        done = subprocess.run([*command, "--port", str(taken.getsockname()[1])], capture_output=True, text=True)
        assert done.returncode == 1
        assert "cannot be had" in done.stderr
        done = subprocess.run([*command, "--uri", "http://u:secret@server:1"], capture_output=True, text=True)
        assert done.returncode == 0
        assert "open http://server:1" in done.stdout
        assert "secret" not in done.stdout


def test_the_server_is_started_without_a_shell_on_loopback(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recexp.tracking import ui

    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ui.main(["--root", str(root), "--port", "0"])
    command = started[0]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{root}/mlflow.db"
    assert not any("sqlite" in word for word in command)
