"""From a raw log of impressions to arrays, and the second start; how memory depends on the size of the log."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.measure import Row, median_seconds
from recexp.config.compose import compose
from recexp.datasets import criteo_generator, prepare

LINES = 1_000_000
TIMES = 8
MAX_CARDINALITY = 1_000_000
#: Prints lines read, seconds and the peak of resident memory; in a process of its own, since a peak never falls.
BUILD = """
import json, sys, time
from pathlib import Path
from recexp.datasets.prepare import prepare
node = json.loads(sys.argv[1])
began = time.perf_counter()
prepared = prepare(node, data=None, cache=Path(sys.argv[2]))
seconds = time.perf_counter() - began
# not getrusage: that of a new process begins with the memory of the process that started it
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")]
print(json.dumps([prepared.meta.rows_read, seconds, *(peak or [0])]))
"""
_EVERY_S = 0.05


class Measured(NamedTuple):
    """Of one build.

    Attributes:
        lines: Read.
        seconds: From the call to the opened arrays.
        peak: Resident bytes of the process, as the system counts them; 0 where it does not tell.
        with_children: The largest sum over the process and its children that was seen, looked at 20 times a second;
            what they share is counted in each.
    """

    lines: int
    seconds: float
    peak: int
    with_children: int


def rows(folder: Path, rounds: int, lines: int = LINES) -> Iterator[Row]:
    """Lines a second and peaks of memory at one and at eight times ``lines``, all of them generated."""
    peaks: list[int] = []
    path = folder / "train.txt"
    node = dict(compose(["model=dlrm", "dataset=criteo", f"dataset.path={path}", "device=cpu"])["dataset"])
    for times in (1, TIMES):
        count = lines * times
        criteo_generator.write(path, rows=count, max_cardinality=MAX_CARDINALITY, seed=1)
        cache = folder / f"criteo{times}"
        measured = []
        for _ in range(min(rounds, 3)):
            shutil.rmtree(cache, ignore_errors=True)
            measured.append(build(node, cache))
        middle = sorted(measured, key=lambda one: one.seconds)[len(measured) // 2]
        name = f"train.txt to arrays, {middle.lines:,} lines (synthetic)"
        yield Row(name, f"{middle.lines / middle.seconds:,.0f}/s", "goal: 250,000 lines/s on 2 cores, aim 500,000")
        peaks.append(max(one.peak for one in measured))
        yield from _memory(peaks, max(one.with_children for one in measured), times)
        second = median_seconds(lambda cache=cache: prepare.prepare(node, data=None, cache=cache), rounds)
        yield Row("  the second start", f"{second:.3f} s")
        shutil.rmtree(cache)
    path.unlink()


def _memory(peaks: list[int], with_children: int, times: int) -> Iterator[Row]:
    if not all(peaks):
        yield Row(f"  peak of resident memory, {times}x", "not measured", "Linux tells it")
    else:
        more = "" if len(peaks) == 1 else f", within 10 % of the first; it is {100 * (peaks[1] / peaks[0] - 1):+.1f} %"
        yield Row(f"  peak of resident memory, {times}x", f"{peaks[-1] >> 20:,} MiB", f"goal: under 2,048 MiB{more}")
    yield Row(f"  with its children, {times}x", f"{with_children >> 20:,} MiB", "sampled; the same where it has none")


def build(node: dict[str, object], cache: Path) -> Measured:
    """Build once, in a process of its own.

    Args:
        node: The composed ``dataset`` node.
        cache: An empty folder, or one that does not exist.
    """
    command = [sys.executable, "-c", BUILD, json.dumps(node), str(cache)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    largest = 0
    while process.poll() is None:
        largest = max(largest, resident(process.pid))
        time.sleep(_EVERY_S)
    said = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"the build ended with {process.returncode}; its message is above")
    lines, seconds, peak = json.loads(said)
    return Measured(lines, seconds, peak, largest)


def resident(pid: int) -> int:
    """Resident bytes of a process and all its children, 0 where it has ended."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total
