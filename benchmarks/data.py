"""From the archive to training arrays, and the second start; raw clicks in bounded memory."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, median_seconds
from recexp.config.compose import compose
from recexp.datasets import prepare, rsc15_synthetic
from recexp.errors import RecexpError

SESSIONS = 500_000
TIMES = 8
#: Prints lines read, seconds and the peak of resident memory; in a process of its own, since a peak never falls.
CLICKS = """
import json, sys, time
from pathlib import Path
from recexp.datasets.prepare import prepare
node = {"name": "rsc15", "_target_": "recexp.datasets.rsc15.read", "path": sys.argv[1]}
began = time.perf_counter()
events = prepare(node, data=None, cache=Path(sys.argv[2]))
seconds = time.perf_counter() - began
# not getrusage: that of a new process begins with the memory of the process that started it
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
print(json.dumps([events.meta.rows_read, seconds, *(peak or [0])]))
"""


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """MovieLens-1M, then generated clicks in RSC15's format."""
    yield from movielens(folder, rounds)
    yield from clicks(folder, min(rounds, 3))


def movielens(folder: Path, rounds: int) -> Iterator[Row]:
    """Both starts, for MovieLens-1M."""
    dataset = compose(["dataset=ml1m", "device=cpu"])["dataset"]
    copy = prepare.default_data()
    caches = (folder / f"cache{number}" for number in itertools.count())
    try:
        first = median_seconds(lambda: prepare.prepare(dataset, data=copy, cache=next(caches)), rounds)
    except RecexpError as error:
        yield Row("ml-1m.zip to arrays", "not measured", str(error).splitlines()[0])
        return
    cache = folder / "cache0"
    second = median_seconds(lambda: prepare.prepare(dataset, data=copy, cache=cache), rounds)
    yield Row("ml-1m.zip to arrays", f"{first:.2f} s", "goal: under 5 s" if copy else "download included")
    yield Row("the second start", f"{second:.3f} s", "goal: under 0.3 s")


def clicks(folder: Path, rounds: int) -> Iterator[Row]:
    """Lines a second and peaks of memory, at one and at eight times the clicks; all of them are generated."""
    peaks = []
    for times in (1, TIMES):
        path = folder / "clicks.dat"
        plan = rsc15_synthetic.Plan(sessions=SESSIONS * times, items=40_000, days=182)
        rsc15_synthetic.write(path, plan)
        measured = [_measure(path, folder / f"clicks{times}-{number}") for number in range(rounds)]
        lines = int(measured[0][0])
        seconds = sorted(each[1] for each in measured)[rounds // 2]
        peaks.append(max(each[2] for each in measured) / 1024)
        size = f"raw clicks to arrays, {lines:,} lines (synthetic)"
        yield Row(size, f"{lines / seconds:,.0f}/s", "goal: 1,000,000 lines/s on 2 cores")
        if not all(peaks):
            yield Row(f"  peak of resident memory, {times}x", "not measured", "Linux tells it")
            continue
        goal = "" if len(peaks) == 1 else f"goal: under 10 % more; it is {100 * (peaks[1] / peaks[0] - 1):+.1f} %"
        yield Row(f"  peak of resident memory, {times}x", f"{peaks[-1]:.0f} MiB", goal)


def _measure(path: Path, cache: Path) -> tuple[float, float, float]:
    command = [sys.executable, "-c", CLICKS, str(path), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(cache)
    lines, seconds, peak = json.loads(done.stdout)
    return lines, seconds, peak
