"""Click sessions: several processes that are first at once, builders that are killed, and memory that does not grow."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recexp.datasets import cache as store
from recexp.datasets import rsc15_synthetic
from recexp.datasets.rsc15_synthetic import Plan

PREPARE = """
import logging, sys
from pathlib import Path
from recexp.datasets.prepare import prepare
logging.basicConfig(level=logging.INFO)
node = {"name": "rsc15", "path": sys.argv[1], "_target_": "recexp.datasets.rsc15.read"}
print("ready", flush=True)
sys.stdin.readline()
events = prepare(node, data=None, cache=Path(sys.argv[2]))
print(events.meta.fingerprint, len(events), flush=True)
# not getrusage: that of a new process begins with the memory of the process that started it
status = Path("/proc/self/status")
if status.exists():
    print(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
"""


def start(path: Path, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE, str(path), str(cache)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go(*processes: subprocess.Popen) -> None:
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def finish(process: subprocess.Popen) -> tuple[str, str, int]:
    """What it built, its log, and the peak of its resident memory in KiB (0: unknown)."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    built, *peak = out.splitlines()
    return built, err, int(peak[0]) if peak else 0


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clicks") / "clicks.dat"
    rsc15_synthetic.write(path, Plan(sessions=50_000, items=2000))
    os.utime(path, (1000, 1000))
    return path


def leftovers(cache: Path) -> list[Path]:
    return [path for path in (cache / "datasets").iterdir() if path.suffix == ".tmp"]


def test_four_first_processes_build_once(clicks: Path, tmp_path: Path) -> None:
    processes = [start(clicks, tmp_path) for _ in range(4)]
    go(*processes)
    results = [finish(process) for process in processes]
    assert len({built for built, _, _ in results}) == 1
    assert sum(err.count(":built ") for _, err, _ in results) == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_builder_is_never_half_believed(clicks: Path, tmp_path: Path, kills: int) -> None:
    rng = random.Random()
    waits = [rng.uniform(0, 0.9) for _ in range(kills)]
    seen = 0
    for wait in waits:
        with start(clicks, tmp_path) as process:
            go(process)
            limit = time.monotonic() + 20
            while not list(tmp_path.glob("datasets/*.lock")) and time.monotonic() < limit:
                time.sleep(0.002)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        seen += len(leftovers(tmp_path))
        assert len(leftovers(tmp_path)) <= 2, f"kills after {waits}"
        for folder in tmp_path.glob("datasets/rsc15-*/"):
            whole = (folder / "meta.json").exists()
            assert (store.load(folder) is not None) == whole, f"kills after {waits}"
            (folder / "meta.json").unlink(missing_ok=True)  # to be built again
    processes = [start(clicks, folder) for folder in (tmp_path, tmp_path / "reference")]
    go(*processes)
    results = [finish(process)[0] for process in processes]
    assert results[0] == results[1], f"kills after {waits}"
    assert leftovers(tmp_path) == []
    assert seen or kills < 10, f"no kill fell into the build: {waits}"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Peak resident memory of the builder, its mapped result included, at one and at eight times the clicks."""
    peaks = []
    for sessions in (500_000, 4_000_000):
        path = tmp_path / "clicks.dat"
        rsc15_synthetic.write(path, Plan(sessions=sessions, items=40_000, days=182))
        process = start(path, tmp_path / f"cache{sessions}")
        go(process)
        peaks.append(finish(process)[2])
    if not all(peaks):
        pytest.skip("this system does not tell the peak of a process's memory")
    assert peaks[1] < 1.1 * peaks[0], peaks
