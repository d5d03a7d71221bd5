"""From the archive to training arrays, and the second start."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, median_seconds
from recexp.config.compose import compose
from recexp.datasets import prepare
from recexp.errors import RecexpError


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """Both, for MovieLens-1M."""
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
