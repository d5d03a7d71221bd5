"""``make bench``: every measurement in turn, as a table. ``ARGS="attrec data"`` chooses."""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import attrec, clicks, command, criteo, data, gru4rec, outfits
from benchmarks.measure import Row
from recexp.devices import host

PARTS: dict[str, Callable[[Path, int], Iterator[Row]]] = {
    "attrec": attrec.rows,
    "gru4rec": gru4rec.rows,
    "clicks": clicks.rows,
    "outfits": outfits.rows,
    "data": data.rows,
    "criteo": criteo.rows,
    "command": command.rows,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--rounds", type=int, default=7, help="paired rounds of a measurement; the median is quoted")
    parser.add_argument("--lines", type=int, default=criteo.LINES, help="criteo: of the smaller of both logs")
    chosen = parser.parse_args()
    parts = {**PARTS, "criteo": partial(criteo.rows, lines=chosen.lines)}
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}  {host.cpu_name()}, {host.usable_cores()} cores,", end=" ")
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen.parts or PARTS:
            began = time.perf_counter()
            for row in parts[part](Path(folder), chosen.rounds):
                print(f"  {row.name:<58} {row.value:>12}  {row.goal}", flush=True)
            print(f"  ({part}: {time.perf_counter() - began:.0f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
