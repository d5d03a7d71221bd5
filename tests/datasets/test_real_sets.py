"""The real datasets, where they are to be had: counts, ids, and the times that were promised."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets.events import TEST, TRAIN, VALIDATION, Events
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


def yoochoose(word: str, data: Path, cache: Path, **options: object) -> Events:
    if not (data / "yoochoose.tar.xz").exists():
        pytest.skip("RECEXP_DATA holds no yoochoose.tar.xz")
    node = {"_target_": f"recexp.datasets.{word}.read", "name": word, **options}
    if word == "rsc15":
        node["path"] = str(data / "yoochoose.tar.xz")
    return prepare(node, data=data, cache=cache)


def sizes(events: Events, part: int) -> tuple[int, int]:
    """Sessions and events of a part."""
    assert events.part is not None
    chosen = events.part[1:] == part
    return int(chosen.sum()), int(np.diff(events.offsets[1:])[chosen].sum())


def test_prepared_clicks(real_data: Path, tmp_path: Path) -> None:
    events = yoochoose("rsc15", real_data, tmp_path, member="clicks_100k")
    assert events.meta.rows_read == 70_278 + 13_568
    assert sum(sizes(events, part)[1] for part in (TRAIN, VALIDATION)) == 70_278
    assert sizes(events, TEST)[1] == 13_568
    # the authors' own split of the training sessions; of their validation, unseen items are left out
    for part, name in ((TRAIN, "train_tr"), (VALIDATION, "train_valid")):
        text = read_member(real_data / "yoochoose.tar.xz", f"clicks_100k/yoochoose-clicks-100k_{name}.txt").decode()
        rows = [line.split("\t") for line in text.splitlines()[1:]]
        theirs = {int(session) for session, _, _ in rows}
        assert events.part is not None
        ours = {int(label) for label in events.user_labels[events.part[1:] == part]}
        assert theirs == ours if part == TRAIN else theirs <= ours
    first = events.offsets[1:-1]
    assert (np.diff(events.time[first]) >= 0).all()
    assert (np.diff(events.time)[np.diff(events.user) == 0] >= 0).all()


def test_most_recent_64th(real_data: Path, tmp_path: Path) -> None:
    events = yoochoose("yoochoose64", real_data, tmp_path)
    train, valid, test = (sizes(events, part) for part in (TRAIN, VALIDATION, TEST))
    assert train[0] + valid[0] == 116_167
    assert valid[0] == 15_324
    assert train[1] + valid[1] - 116_167 == 23_670_982 // 64  # the published number of pairs
    left = events.meta.left_out
    assert test[0] + left["short_test_sessions"] == 15_324
    assert test[1] + left["test_unseen_items_events"] + left["short_test_sessions_events"] == 71_222


def test_raw_clicks(real_data: Path, tmp_path: Path) -> None:
    events = yoochoose("rsc15", real_data, tmp_path, member="raw_excerpt")
    assert events.meta.rows_read == 4_299
    gone = sum(count for reason, count in events.meta.left_out.items() if reason.endswith("_events"))
    assert len(events) + gone == 4_299
    text = read_member(real_data / "yoochoose.tar.xz", "raw_excerpt/yoochoose-clicks.csv").decode()
    known: dict[int, list[tuple[np.datetime64, int]]] = {}
    for line in text.splitlines():
        session, time, item, _ = line.split(",")
        known.setdefault(int(session), []).append((np.datetime64(time.removesuffix("Z"), "ms"), int(item)))
    for user in range(1, events.num_users + 1, 7):
        own = slice(events.offsets[user], events.offsets[user + 1])
        rows = [
            (np.datetime64(int(time), "ms"), events.item_label(int(item)))
            for time, item in zip(events.time[own], events.item[own], strict=True)
        ]
        assert set(rows) <= set(known[int(events.user_label(user))])
