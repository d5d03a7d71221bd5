"""Run directories: one for each run, one process in each, found again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from recexp.errors import ConfigError, TrackingError
from recexp.tracking import run_directory


def _create(root: str) -> str:
    return str(run_directory.create(Path(root), "a"))


def test_no_two_processes_get_the_same(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        made = list(pool.map(_create, [str(tmp_path)] * 40))
    assert sorted(Path(path).name for path in made) == [f"{number:03d}" for number in range(1, 41)]


def test_a_living_process_keeps_the_others_out_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = run_directory.create(tmp_path, "a")
    code = (
        "import sys, time; from pathlib import Path; from recexp.tracking import run_directory as r\n"
        "claim = r.claim(Path(sys.argv[1])); print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"claimed\n"
        assert run_directory.is_alive(path)
        assert run_directory.hold(path, 0.0) is None
        with pytest.raises(TrackingError, match=f"process {holder.pid} on"):
            run_directory.claim(path)
        holder.send_signal(signal.SIGKILL)
    assert not run_directory.is_alive(path)
    with run_directory.claim(path):
        assert run_directory.state(path).pid == os.getpid()
        assert run_directory.state(path).status == "RUNNING"


def test_find_and_resolve(tmp_path: Path) -> None:
    first, second, other = (run_directory.create(tmp_path, "a b", identity=i) for i in ("x", "x", "y"))
    assert run_directory.find(tmp_path, identity="x") is None, "a run that never started holds nothing"
    for path, status in ((first, "KILLED"), (second, "FINISHED"), (other, "FAILED")):
        run_directory.update(path, status=status)
    assert run_directory.find(tmp_path, identity="x") == first
    assert run_directory.find(tmp_path, identity="x", unfinished=False) == second
    (second / run_directory.DELIVERED_FILE).write_text(json.dumps({"run_id": "m1"}))
    for reference in ("m1", str(second), "a-b/002", run_directory.state(second).uuid):
        assert run_directory.resolve(tmp_path, reference) == second
    with pytest.raises(ConfigError, match=r"No run 'nope'.*a-b/003"):
        run_directory.resolve(tmp_path, "nope")


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"paths\.root"):
        run_directory.create(tmp_path / "file", "a")
