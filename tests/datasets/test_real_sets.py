"""The real datasets, where they are to be had: counts, ids, and the times that were promised."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets.events import Events
from recexp.datasets.ml1m import ML1M
from recexp.datasets.ml100k import ML100K
from recexp.datasets.ml_latest_small import ML_LATEST_SMALL
from recexp.datasets.prepare import prepare
from recexp.datasets.published import Published
from recexp.storage.archive import read_member


def make(word: str, data: Path, cache: Path) -> tuple[Events, float]:
    node = {"_target_": f"recexp.datasets.{word}.read", "name": word}
    started = time.perf_counter()
    return prepare(node, data=data, cache=cache), time.perf_counter() - started


@pytest.mark.parametrize(
    ("published", "archive", "rows", "users", "items", "rated"),
    [
        (ML1M, "ml-1m.zip", 1_000_209, 6040, 3952, 3706),
        (ML100K, "ml-100k.tar.xz", 100_000, 943, 1682, 1682),
        (ML_LATEST_SMALL, "ml-latest-small.tar.xz", 100_836, 610, 9724, 9724),
    ],
    ids=["ml1m", "ml100k", "ml_latest_small"],
)
def test_counts_and_content(
    real_data: Path, tmp_path: Path, published: Published, archive: str, rows: int, users: int, items: int, rated: int
) -> None:
    if not (real_data / archive).exists():
        pytest.skip(f"RECEXP_DATA holds no {archive}")
    events, _ = make(published.release.word, real_data, tmp_path)
    assert (len(events), events.num_users, events.num_items) == (rows, users, items)
    assert len(np.unique(events.item)) == rated
    assert events.meta.verified is True
    text = read_member(real_data / archive, published.rating_file).decode()
    lines = text.splitlines()[1 if published.header else 0 :]
    assert len(lines) == events.meta.rows_read == rows
    step = max(1, rows // 500)
    for line in lines[::step]:  # a sample of the file's rows is found where it belongs
        user, item, rating, seconds = line.split(published.layout.separator)
        number = int(user) if events.user_labels is None else int(np.searchsorted(events.user_labels, int(user))) + 1
        own = slice(events.offsets[number], events.offsets[number + 1])
        labels = [events.item_label(int(each)) for each in events.item[own]]
        place = labels.index(int(item))
        assert events.rating[own][place] == float(rating)
        assert events.time[own][place] == int(seconds)
    assert (np.diff(events.time)[np.diff(events.user) == 0] >= 0).all()
    assert (np.diff(events.user) >= 0).all()


def test_times(real_data: Path, tmp_path: Path) -> None:
    if not (real_data / "ml-1m.zip").exists():
        pytest.skip("RECEXP_DATA holds no ml-1m.zip")
    _, first = make("ml1m", real_data, tmp_path)
    seconds = [make("ml1m", real_data, tmp_path)[1] for _ in range(3)]
    # The second start takes the arrays from the cache; how long that is, benchmarks/ measures.
    assert min(seconds) < first
