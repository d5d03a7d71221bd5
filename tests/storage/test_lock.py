"""Locks between real processes: held, killed, waited for, timed out."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from recexp.errors import RecexpError
from recexp.storage.lock import holder, locked

HOLDER = """
import sys, time
from pathlib import Path
from recexp.storage.lock import locked
with locked(Path(sys.argv[1]), "test the lock"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start(path: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDER, str(path), "--uri=https://me:secret@host/x"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_timeout_names_the_holder_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with start(path) as process:
        with pytest.raises(RecexpError) as caught, locked(path, "other", timeout=0.1):
            pass
        process.kill()
    text = str(caught.value)
    assert f"process {process.pid} on this host" in text
    assert "test the lock" in text
    assert "Wait for that process or end it" in text
    assert "secret" not in text


def test_waits_for_a_living_holder_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.lock"
    with start(path) as process, caplog.at_level(logging.INFO):
        timer = threading.Timer(0.2, lambda: (process.stdin.write(b"\n"), process.stdin.flush()))
        timer.start()
        with locked(path, "mine", timeout=20):
            note = holder(path)
        timer.join()
    assert note is not None
    assert note["purpose"] == "mine"
    waiting = [record.getMessage() for record in caplog.records if "waiting for" in record.getMessage()]
    assert len(waiting) == 1
    assert str(process.pid) in waiting[0]


def test_dead_holder_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with start(path) as process:
        process.kill()
    assert holder(path)["pid"] == process.pid
    with locked(path, "mine", timeout=0):
        pass
    assert holder(path) is None


def test_error_in_the_block_releases(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with pytest.raises(KeyError), locked(path, "mine"):
        raise KeyError
    with locked(path, "again", timeout=0):
        pass


def test_damaged_note_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "a.lock.holder").write_text("{")
    assert holder(tmp_path / "a.lock") is None
