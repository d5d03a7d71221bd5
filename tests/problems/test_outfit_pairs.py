"""Training pairs against the reference's own words: an outfit written item by item into an array of categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recexp.problems.outfit_arrays import NOTHING, Pool
from recexp.problems.outfit_pairs import PairMaker
from tests.support.outfit_cases import category_of, golden, outfit, random_outfits, written

DATA = random_outfits(train=60, categories=7, longest=6)
TRAIN = np.arange(60)
RANDOM = {"category": "random", "refresh": "epoch"}


def maker(negatives: dict[str, Any] = RANDOM, *, per_outfit: int = 8, seed: int = 1) -> PairMaker:
    return PairMaker(DATA, TRAIN, per_outfit=per_outfit, negatives=negatives, seed=seed)


def members(rows: Any, pair: int, which: int) -> set[int]:
    return {int(item) for item in rows.items[pair][rows.member[pair, which]]}


def test_the_golden_expansion() -> None:
    case = golden("ngnn")["train_expansion"]
    count = len(case["input"]["outfit_lengths"])
    assert len(PairMaker(DATA, TRAIN[:count], per_outfit=8, negatives=RANDOM, seed=1)) == case["expected"]["samples"]
    assert 16_983 * case["input"]["per_outfit"] == case["expected"]["full_dataset"]
    assert case["expected"]["full_dataset"] // 16 == case["expected"]["steps_per_epoch_at_16"]


def test_every_pair_is_what_the_reference_would_write() -> None:
    rows = maker().take(0, np.arange(480))
    collisions = 0
    for pair in range(480):
        items = outfit(DATA, pair // 8)
        instead = int(rows.items[pair, -1])
        assert members(rows, pair, 0) == set(items)
        possible = [written(DATA, items, position, instead) for position in range(len(items))]
        other = members(rows, pair, 1)
        assert other in possible
        if pair % 8 < len(items):
            assert other == possible[pair % 8]
        collisions += len(other) < len(items)
    assert collisions > 20


def test_categories_are_drawn_alike_and_items_within_them() -> None:
    rows = maker(per_outfit=200).take(0, np.arange(12_000))
    drawn = rows.items[:, -1]
    counts = np.bincount(DATA.category_of(drawn), minlength=7)
    assert counts.min() > 0.85 * 12_000 / 7
    pool = Pool.of(DATA, TRAIN)
    in_first = drawn[DATA.category_of(drawn) == 0]
    assert set(in_first) == set(pool.items[: pool.offsets[1]])
    share = np.bincount(np.searchsorted(pool.items, in_first), minlength=pool.sizes[0]) / len(in_first)
    assert share.min() > 0.6 / pool.sizes[0]


def test_the_same_category_never_gives_the_item_itself() -> None:
    rows = maker({"category": "same", "refresh": "epoch"}).take(0, np.arange(480))
    for pair in range(480):
        gone = members(rows, pair, 0) - members(rows, pair, 1)
        new = members(rows, pair, 1) - members(rows, pair, 0)
        assert {category_of(DATA, item) for item in gone} == {category_of(DATA, item) for item in new}
        assert len(gone) == 1 or Pool.of(DATA, TRAIN).sizes[category_of(DATA, int(rows.items[pair, -1]))] == 1


def test_half_of_each() -> None:
    made = maker({"category": "mixed", "refresh": "epoch"}, per_outfit=100)
    pairs = np.arange(6000)
    rows, same, random = (
        maker({"category": kind, "refresh": "epoch"}, per_outfit=100).take(0, pairs).items[:, -1]
        for kind in ("mixed", "same", "random")
    )
    assert ((rows == same) | (rows == random)).all()
    assert 0.45 < (rows == same).mean() < 0.6
    assert made.take(0, pairs[7:9]).items[:, -1].tolist() == rows[7:9].tolist()


def test_by_frequency_any_training_item_may_come() -> None:
    rows = maker({"category": "frequency", "refresh": "epoch"}, per_outfit=100).take(0, np.arange(6000))
    assert set(rows.items[:, -1]) == set(Pool.of(DATA, TRAIN).items)


@pytest.mark.parametrize(("refresh", "alike"), [("epoch", False), ("never", True)])
def test_negatives_of_another_epoch(refresh: str, alike: bool) -> None:
    made = maker({"category": "random", "refresh": refresh})
    first, second = (made.take(epoch, np.arange(480)).items for epoch in (0, 1))
    assert (first == second).all() == alike
    assert (made.take(0, np.arange(480)).items == first).all()


def test_pairs_do_not_depend_on_what_is_taken_with_them() -> None:
    whole, some = maker().take(3, np.arange(480)), maker().take(3, np.array([471, 5, 8]))
    assert (whole.items[[471, 5, 8]] == some.items).all()
    assert (whole.member[[471, 5, 8]] == some.member).all()


def test_longer_outfits_have_other_items_replaced_in_other_epochs() -> None:
    made = maker({"category": "same", "refresh": "epoch"}, per_outfit=2)
    longest = int(np.argmax(made.lengths))
    replaced = set()
    for epoch in range(30):
        rows = made.take(epoch, np.arange(2) + 2 * longest)
        own = [int(np.flatnonzero(rows.member[p, 0] & ~rows.member[p, 1])[0]) for p in range(2)]
        assert len(set(own)) == 2
        replaced |= set(own)
    assert replaced == set(range(int(made.lengths[longest])))


def test_unused_nodes_are_no_members() -> None:
    rows = maker().take(0, np.arange(480))
    assert not rows.member[np.broadcast_to((rows.items == NOTHING)[:, None], rows.member.shape)].any()
