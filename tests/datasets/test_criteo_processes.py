"""Criteo's builder in processes: killed at any moment it goes on; its memory does not grow with the file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recexp.datasets import impression_store

PREPARE = """
import sys, time
from pathlib import Path
import pandas  # takes a second, in which no kill would find anything
import recexp.datasets.click_logs.build as build
from recexp.datasets.click_logs import chunk, fields
from recexp.datasets.prepare import prepare
path, cache, size, slow = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
build.CHUNK_BYTES = size
build.Build.__init__.__defaults__ = (None, size, None)
work = open(cache / "work.log", "a", buffering=1)
parse, number = chunk.parse_chunk, fields._number
def parsing(text, *a, **k):
    time.sleep(slow)
    found = parse(text, *a, **k)
    return found
save = chunk.save
def saving(path, *a):
    done = save(path, *a)
    print("chunk", path.name, file=work)
    return done
def numbering(column, *a):
    time.sleep(slow)
    found = number(column, *a)
    print("field", column.name, file=work)
    return found
from recexp.datasets.click_logs import lines_pass
lines_pass.parse_chunk, chunk.save, fields._number = parsing, saving, numbering
node = {"name": "criteo", "path": path, "_target_": "recexp.datasets.criteo.read", "recipe": "bars_x4", "min_count": 2}
print("ready", flush=True)
sys.stdin.readline()
found = prepare(node, data=None, cache=cache)
print(found.meta.fingerprint, len(found), flush=True)
# not getrusage: that of a new process begins with the memory of the process that started it
status = Path("/proc/self/status")
if status.exists():
    print(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
"""


def start(path: Path, cache: Path, size: int = 100_000, slow: float = 0.0) -> subprocess.Popen:
    cache.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PREPARE, str(path), str(cache), str(size), str(slow)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go(process: subprocess.Popen) -> None:
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: subprocess.Popen) -> tuple[str, int]:
    """What it built, and the peak of its resident memory in KiB (0: unknown)."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    built, *peak = out.splitlines()
    return built, int(peak[0]) if peak else 0


def write_lines(path: Path, rows: int, values: int = 3000) -> Path:
    """Lines whose fields repeat, so that ids need counting; written fast, from few different pieces."""
    rng = random.Random(5)
    numbers = ["\t".join(rng.choice(["", "0", "7", "-1", "1234"]) for _ in range(13)) for _ in range(200)]
    ids = ["\t".join(f"{rng.randrange(values) * 1_234_567 % 2**32:08x}" for _ in range(26)) for _ in range(values)]
    with path.open("w") as sink:
        for _ in range(rows):
            sink.write(f"{rng.getrandbits(1)}\t{numbers[rng.randrange(200)]}\t{ids[rng.randrange(values)]}\n")
    os.utime(path, (1000, 1000))
    return path


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_builder_goes_on(tmp_path: Path, kills: int) -> None:
    path = write_lines(tmp_path / "train.txt", 6000)
    cache = tmp_path / "cache"
    rng = random.Random()
    slow = 0.03 if kills < 10 else 0.15
    waits = [rng.uniform(0, 1.2) for _ in range(kills)]
    for wait in waits:
        with start(path, cache, slow=slow) as process:
            go(process)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        for folder in cache.glob("datasets/criteo-*/"):
            if folder.suffix == "":
                assert impression_store.load(folder) is not None, f"half published, kills after {waits}"
    told = finish_both(path, cache, tmp_path / "reference", slow)
    assert told[0] == told[1], f"kills after {waits}"
    done = (cache / "work.log").read_text().splitlines()
    assert len(done) == len(set(done)), f"done twice, kills after {waits}: {sorted(done)}"
    once = (tmp_path / "reference" / "work.log").read_text().splitlines()
    # a kill may fall between a finished chunk and its line in the log
    assert set(done) <= set(once)
    assert len(done) >= len(once) - 3 * kills
    assert [each.name for each in (cache / "datasets").iterdir() if each.suffix in {".work", ".tmp"}] == []


def finish_both(path: Path, cache: Path, reference: Path, slow: float) -> list[str]:
    found = []
    for folder in (cache, reference):
        process = start(path, folder)
        go(process)
        found.append(finish(process)[0])
    arrays = [sorted(folder.glob("datasets/criteo-*/*.npy")) for folder in (cache, reference)]
    assert len(arrays[0]) == 3
    assert [each.read_bytes() for each in arrays[0]] == [each.read_bytes() for each in arrays[1]]
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Peak resident memory of the builder at one and at eight million rows."""
    peaks = []
    for rows in (1_000_000, 8_000_000):
        path = write_lines(tmp_path / "train.txt", rows, 100_000)
        process = start(path, tmp_path / f"cache{rows}", 16 << 20)
        go(process)
        peaks.append(finish(process)[1])
        path.unlink()
    if not all(peaks):
        pytest.skip("this system does not tell the peak of a process's memory")
    assert peaks[1] < 1.1 * peaks[0], peaks
    assert max(peaks) < 2 << 20
