"""Several processes that are first at once, and builders that are killed."""

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

PREPARE = """
import json, logging, sys, time
from pathlib import Path
from recexp.datasets.prepare import prepare
logging.basicConfig(level=logging.INFO)
columns = {"user": "user", "item": "item", "rating": "rating", "time": "time"}
node = {"name": "interactions", "path": sys.argv[1], "columns": columns}
node["_target_"] = "recexp.datasets.interactions.read"
print("ready", flush=True)
sys.stdin.readline()
events = prepare(node, data=None, cache=Path(sys.argv[2]))
print(events.meta.fingerprint, int(events.item.sum()), flush=True)
"""


@pytest.fixture
def numbers_csv(tmp_path: Path) -> Path:
    rows = [f"{n * 7919 % 997},{n * 104729 % 499},{n % 5 + 1},{n % 1000}" for n in range(20_000)]
    path = tmp_path / "numbers.csv"
    path.write_text("\n".join(["user,item,rating,time", *rows]))
    os.utime(path, (1000, 1000))
    return path


def start(path: Path, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE, str(path), str(cache)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go(process: subprocess.Popen) -> None:
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


@pytest.mark.parametrize("repetitions", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_eight_first_processes_build_once(numbers_csv: Path, tmp_path: Path, repetitions: int) -> None:
    for repetition in range(repetitions):
        processes = [start(numbers_csv, tmp_path / f"cache{repetition}") for _ in range(8)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        results = [finish(process) for process in processes]
        assert len({out for out, _ in results}) == 1
        assert sum(err.count(":built ") for _, err in results) == 1
        assert "Traceback" not in "".join(err for _, err in results)


def wait_for(cache: Path, seconds: float) -> None:
    """Wait until the builder is at work, then some more, so that kills fall into the build and not before it."""
    limit = time.monotonic() + 20
    while not list(cache.glob("datasets/*.lock")) and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(seconds)


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_builder_is_never_half_believed(numbers_csv: Path, tmp_path: Path, kills: int) -> None:
    reference = start(numbers_csv, tmp_path / "reference")
    go(reference)
    expected, err = finish(reference)
    cache = tmp_path / "cache"
    rng = random.Random()
    waits = [rng.uniform(0, 0.35) for _ in range(kills)]
    spoilt = False
    for wait in waits:
        with start(numbers_csv, cache) as process:
            go(process)
            wait_for(cache, wait)
            process.send_signal(signal.SIGKILL)
        for folder in cache.glob("datasets/interactions-*/"):
            events = store.load(folder)
            assert (events is None) == (spoilt and not (folder / "meta.json").exists()), f"kills after {waits}"
            assert events is None or f"{events.meta.fingerprint} {events.item.sum()}\n" == expected
            spoilt = events is None or rng.random() < 0.7
            if spoilt:
                (folder / "meta.json").unlink(missing_ok=True)
    last = start(numbers_csv, cache)
    go(last)
    out, err = finish(last)
    assert out == expected, f"kills after {waits}: {err}"
    (folder,) = cache.glob("datasets/interactions-*/")
    (folder / "meta.json").unlink()
    for built in (1, 0):
        again = start(numbers_csv, cache)
        go(again)
        out, err = finish(again)
        assert out == expected
        assert err.count(":built ") == built
    assert list(cache.glob("datasets/.*.tmp")) == []
