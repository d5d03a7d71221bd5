"""Generated data: the format, the planted order, and that it is labelled as generated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets.events import Events
from recexp.datasets.ml1m_synthetic import Recipe, generate, write
from recexp.datasets.prepare import prepare
from recexp.errors import ConfigError, DataError

NODE = {"_target_": "recexp.datasets.ml1m_synthetic.read", "name": "ml1m_synthetic"}


def make(tmp_path: Path, **options) -> Events:
    return prepare({**NODE, **options}, data=None, cache=tmp_path / "cache")


def hit_rates(events: Events, k: int = 10) -> tuple[float, float]:
    """Share of last items among the k best of popularity, and of the transition counts of the item before."""
    n = events.num_items + 1
    last = events.offsets[2:] - 1
    train = np.ones(len(events.item), dtype=bool)
    train[last] = False
    popularity = np.bincount(events.item[train], minlength=n).astype(float)
    follows = train[1:] & (events.user[1:] == events.user[:-1])
    counts = np.zeros((n, n))
    np.add.at(counts, (events.item[:-1][follows], events.item[1:][follows]), 1.0)
    hits = np.zeros(2)
    for user, end in enumerate(last, start=1):
        seen = events.item[events.offsets[user] : end]
        for column, scores in enumerate((popularity, counts[events.item[end - 1]] + popularity * 1e-6)):
            scores = scores.copy()
            scores[seen] = -1
            hits[column] += np.sum(scores > scores[events.item[end]]) < k
    popular, sequential = hits / len(last)
    return float(popular), float(sequential)


def test_order_is_planted_and_only_where_asked_for(tmp_path: Path) -> None:
    popular, sequential = hit_rates(make(tmp_path))
    assert sequential > 0.25
    assert sequential > 3 * popular
    popular, sequential = hit_rates(make(tmp_path, structure=0.0))
    assert sequential < popular + 0.1


def test_labelled_and_sized_as_asked(tmp_path: Path) -> None:
    events = make(tmp_path, users=50, items=60, events_per_user=12, clusters=6, seed=3)
    assert events.meta.synthetic is True
    assert "(generated)" in events.meta.origin
    assert events.meta.verified is None
    assert events.num_users == 50
    assert events.num_items <= 60
    lengths = np.diff(events.offsets)[1:]
    assert lengths.min() >= 6
    assert abs(lengths.mean() - 12) < 2
    pairs = events.user.astype(np.int64) * 100 + events.item
    assert len(np.unique(pairs)) == len(pairs)


def test_same_recipe_same_data_other_seed_other_data(tmp_path: Path) -> None:
    small = {"users": 30, "items": 40, "events_per_user": 8, "clusters": 5}
    first = make(tmp_path / "a", **small).meta.fingerprint
    assert make(tmp_path / "b", **small).meta.fingerprint == first
    assert make(tmp_path / "a", **small, seed=2).meta.fingerprint != first


def test_file_has_the_format_of_the_original(tmp_path: Path) -> None:
    recipe = Recipe(users=20, items=40, events_per_user=8, clusters=5)
    write(tmp_path / "ratings.dat", recipe)
    lines = (tmp_path / "ratings.dat").read_text().splitlines()
    assert all(re.fullmatch(r"\d+::\d+::[1-5]::\d{9,10}", line) for line in lines)
    columns = np.array([line.split("::") for line in lines], dtype=np.int64).T
    for ours, theirs in zip(columns, generate(recipe), strict=True):
        assert np.array_equal(ours, theirs)


def test_sizes_that_contradict_each_other_are_told_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe(users=5, items=20, events_per_user=10, clusters=15)
    assert len(caught.value.problems) == 2


def test_path_has_no_meaning(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.path has no meaning"):
        make(tmp_path, path="x")


def test_min_rating_works_as_for_any_other(tmp_path: Path) -> None:
    assert make(tmp_path, min_rating=4).rating.min() == 4
    with pytest.raises(DataError, match="no event with a rating"):
        make(tmp_path, min_rating=6)
