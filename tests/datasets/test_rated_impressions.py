"""Ratings as clicks: labels, fields, the exact split, what is said about ids that training never has, and mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recexp.datasets import rated_impressions
from recexp.datasets.attributes import Attributes, several, single
from recexp.datasets.events import Events
from recexp.datasets.impressions import Field, Impressions
from recexp.datasets.places import Places
from recexp.datasets.rated_impressions import cut, from_events
from recexp.errors import ConfigError, DataError

PROBLEM = {
    "threshold": 4.0, "fields": None, "split": "random", "split_seed": 2018, "validation_share": 0.1, "test_share": 0.2,
}  # fmt: skip
NOWHERE = Places(None, Path())


@pytest.fixture
def events(make_events: Callable[..., Events]) -> Events:
    """20 users with 10 ratings each, of 30 items; times cross over users."""
    rng = np.random.default_rng(5)
    made = make_events([(rng.permutation(30)[:10] + 1).tolist() for _ in range(20)], 30)
    rating = rng.integers(1, 6, 200).astype(np.float32)
    return dataclasses.replace(made, rating=rating, time=rng.integers(0, 50, 200))


def pose(events: Events, dataset: dict | None = None, **problem: object) -> Impressions:
    return from_events(events, {"name": "mine", **(dataset or {})}, {**PROBLEM, **problem}, NOWHERE)


def plain_rows(events: Events, **problem: object) -> list[list[tuple[int, int, int]]]:
    """Label, user and item of each part, one event after the other."""
    options = {**PROBLEM, **problem}
    n = len(events)
    order = list(np.random.default_rng(options["split_seed"]).permutation(n))
    if options["split"] == "time":
        order = sorted(range(n), key=lambda row: (events.time[row], row))
    test, validation = round(n * options["test_share"]), round(n * options["validation_share"])
    ends = order[: n - test - validation], order[n - test - validation : n - test], order[n - test :]
    return [
        [
            (int(events.rating[row] >= options["threshold"]), int(events.user[row]), int(events.item[row]))
            for row in sorted(rows)
        ]
        for rows in ends
    ]


@pytest.mark.parametrize("problem", [{}, {"split_seed": 7, "threshold": 2.5}, {"split": "time"}])
def test_rows_are_those_of_an_obvious_loop(events: Events, problem: dict) -> None:
    impressions = pose(events, **problem)
    for name, expected in zip(("train", "val", "test"), plain_rows(events, **problem), strict=True):
        rows = impressions.part(name)
        found = np.column_stack([impressions.label[rows], impressions.ids[rows]])
        assert found.tolist() == [list(row) for row in expected]
    assert impressions.fields == (Field("user", 21), Field("item", 31))
    assert impressions.dense.shape == (200, 0)
    assert (impressions.label.dtype, impressions.dense.dtype, impressions.ids.dtype) == (np.uint8, np.float32, np.int32)


@given(
    times=st.lists(st.integers(-5, 5), max_size=60),
    validation=st.integers(0, 500),
    test=st.integers(0, 500),
    seed=st.integers(0, 2**31),
    split=st.sampled_from(["random", "time"]),
)
def test_every_row_has_one_part_and_shares_are_exact(
    times: list[int], validation: int, test: int, seed: int, split: str
) -> None:
    n, options = len(times), {"split": split, "validation_share": validation / 1000, "test_share": test / 1000}
    part = cut(np.array(times, dtype=np.int64), seed=seed, **options)
    half_up = [int(Fraction(n * share, 1000) + Fraction(1, 2)) for share in (validation, test)]
    counts = np.bincount(part, minlength=3)
    assert len(part) == n
    assert abs(counts[2] - half_up[1]) <= (n * test % 1000 == 500)  # the share as a float may be just below the half
    assert sum(half_up) > n or abs(counts[1] - half_up[0]) <= (n * validation % 1000 == 500)
    assert np.array_equal(part, cut(np.array(times, dtype=np.int64), seed=seed, **options))
    if split == "time":
        keys = sorted(zip(times, range(n), part, strict=True))
        assert [each for _, _, each in keys] == sorted(part)


def test_random_parts_depend_on_their_seed_alone_and_time_on_none() -> None:
    time = np.arange(1000) % 37
    shares = {"validation_share": 0.1, "test_share": 0.1}
    one = cut(time, split="random", seed=1, **shares)
    assert np.array_equal(one, cut(time[::-1], split="random", seed=1, **shares))
    assert not np.array_equal(one, cut(time, split="random", seed=2, **shares))
    assert np.array_equal(*(cut(time, split="time", seed=seed, **shares) for seed in (1, 2)))


def known(dataset: dict, places: Places) -> Attributes:
    """A column of users, and one of several values of items."""
    return Attributes(
        users=(single("land", {1: "se", 2: "de", 4: "", 20: "de"}),),
        items=(several("kind", {2: ["b", "a"], 3: [], 5: ["c"]}),),
        verified=dataset.get("whole"),
    )


known.__module__ = rated_impressions.__name__


@pytest.fixture
def with_columns(monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(rated_impressions, "known", known, raising=False)
    return {"attributes": "recexp.datasets.rated_impressions.known"}


def test_columns_of_users_and_items_stand_behind_the_ids(events: Events, with_columns: dict) -> None:
    impressions = pose(events, with_columns)
    assert impressions.fields == (Field("user", 21), Field("item", 31), Field("land", 3), Field("kind", 4, 2))
    land = {1: 2, 2: 1, 20: 1}
    kind = {2: [2, 1], 5: [3, -1]}
    for user, item, *rest in impressions.ids.tolist():
        assert rest == [land.get(user, 0), *kind.get(item, [0, -1])]
    chosen = pose(events, with_columns, fields=["kind", "user"])
    assert [field.name for field in chosen.fields] == ["user", "kind"]
    assert np.array_equal(chosen.ids, impressions.ids[:, [0, 3, 4]])


def test_columns_that_nobody_wants_are_not_looked_for(events: Events) -> None:
    nowhere = {"attributes": "recexp.datasets.nowhere.load"}
    assert len(pose(events, nowhere, fields=["item", "user"]).fields) == 2
    with pytest.raises(ConfigError, match="there is no module"):
        pose(events, nowhere)


def test_unknown_fields_are_told_all_at_once(events: Events, with_columns: dict) -> None:
    with pytest.raises(ConfigError) as caught:
        pose(events, with_columns, fields=["user", "lands", "genre"])
    first, second = caught.value.problems
    assert first == (
        "problem.fields: dataset=mine has no field 'lands'; it has user, item, land, kind. Did you mean land?"
    )
    assert "'genre'" in second


def test_ids_that_training_never_has_are_counted(events: Events) -> None:
    for split in ("random", "time"):
        impressions = pose(events, split=split, test_share=0.5, validation_share=0.4)
        train = {name: set(impressions.ids[impressions.part("train"), c]) for c, name in enumerate(("user", "item"))}
        rest = impressions.ids[impressions.bounds[1] :].tolist()
        assert impressions.meta.notes == {
            "unseen_in_training_users": len({user for user, _ in rest} - train["user"]),
            "unseen_in_training_items": len({item for _, item in rest} - train["item"]),
            "unseen_in_training_events": sum(u not in train["user"] or i not in train["item"] for u, i in rest),
        }
        assert impressions.meta.notes["unseen_in_training_events"] > 0


def test_fingerprint_follows_everything_that_changes_a_row(events: Events, with_columns: dict) -> None:
    base = pose(events)
    assert pose(events).meta.fingerprint == base.meta.fingerprint
    other = dataclasses.replace(events, meta=dataclasses.replace(events.meta, fingerprint="1" * 64))
    variants = [
        pose(events, threshold=3.0), pose(events, split="time"), pose(events, split_seed=1),
        pose(events, test_share=0.3), pose(events, validation_share=0.3), pose(events, fields=["user"]),
        pose(events, with_columns), pose(other),
    ]  # fmt: skip
    seen = {base.meta.fingerprint, *(each.meta.fingerprint for each in variants)}
    assert len(seen) == len(variants) + 1
    assert pose(events, split="time", split_seed=3).meta.fingerprint == variants[1].meta.fingerprint
    assert pose(events, fields=["item", "user"]).meta.fingerprint == base.meta.fingerprint


def test_altered_columns_mark_the_data(events: Events, with_columns: dict) -> None:
    assert pose(events, with_columns).meta.verified is None
    assert pose(events, {**with_columns, "whole": False}).meta.verified is False


@pytest.mark.parametrize(
    ("change", "threshold", "told"),
    [
        (1.0, 4.0, r"none of 200 rows .*every rating is 1, as where there is no column of ratings.*dataset\.columns"),
        (1.0, 1.0, r"all of 200 rows .*every rating is 1"),
        (None, 6.0, r"none of 200 rows .*ratings are 1 to 5.*problem\.threshold above 1 and up to 5"),
        (None, 0.5, r"all of 200 rows .*lower dataset\.min_rating"),
    ],
)
def test_equal_labels_are_refused_with_the_way_on(
    events: Events, change: float | None, threshold: float, told: str
) -> None:
    if change is not None:
        events = dataclasses.replace(events, rating=np.full(200, change, dtype=np.float32))
    with pytest.raises(DataError, match=told):
        pose(events, threshold=threshold)


def test_a_part_without_rows_is_refused(events: Events) -> None:
    with pytest.raises(DataError, match=r"leave a part empty \(train 0, val 100, test 100\)"):
        pose(events, validation_share=0.5, test_share=0.5)
    with pytest.raises(DataError, match="val 0"):
        pose(events, validation_share=0.001)


def test_interactions_without_ratings(interactions: Callable[..., Events], rows_csv: Path) -> None:
    events = interactions(rows_csv, columns={"rating": None})
    with pytest.raises(DataError, match="there is no column of ratings"):
        pose(events)
    rated = pose(interactions(rows_csv), threshold=3, validation_share=0.25, test_share=0.25)
    assert sorted(rated.label.tolist()) == [0, 0, 1, 1]


def test_the_split_is_said_in_words(events: Events) -> None:
    assert pose(events).split == "random by seed 2018: 10 % of the rows validation, 20 % test"
    assert pose(events, split="time").split == "by time: the latest, 10 % of the rows validation, 20 % test"
