"""Batches of pairs: the right items with their own features, in every order, for any number of processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recexp.datasets.outfits import Outfits
from recexp.problems.outfit import OutfitBatch
from recexp.problems.outfit_feed import OutfitFeed
from recexp.problems.outfit_items import PlacedItems, exchanged
from recexp.problems.outfit_pairs import PairMaker
from recexp.problems.schedule import Plan
from tests.support.outfit_cases import category_of, random_outfits

DATA = random_outfits(train=30, categories=7)


def feed(*, shuffle: str = "pairs", batch_size: int = 16, seed: int = 1, data: Outfits = DATA) -> OutfitFeed:
    pairs = PairMaker(
        data, np.arange(30), per_outfit=8, negatives={"category": "random", "refresh": "epoch"}, seed=seed
    )
    plan = Plan(rows=len(pairs), batch_size=batch_size)
    return OutfitFeed(PlacedItems(data), pairs, plan, shuffle=shuffle, seed=seed)


def batches(made: OutfitFeed, epoch: int = 0) -> list[OutfitBatch]:
    return [batch for update in made.block(epoch, range(made.plan.updates)).updates for batch in update.batches]


def sets(batch: OutfitBatch) -> list[tuple[frozenset[tuple[float, ...]], ...]]:
    """The pictures of both outfits of every pair: what a model sees, whatever the numbers of the nodes."""
    assert batch.items.image is not None
    pictures = [tuple(row) for row in batch.items.image.tolist()]
    found = []
    for row in range(len(batch)):
        own = [
            frozenset(pictures[int(node)] for node in batch.outfits.node[row][batch.outfits.member[row, one]])
            for one in (0, 1)
        ]
        found.append(tuple(own))
    return found


def test_items_are_distinct_in_runs_of_a_category_with_their_own_features() -> None:
    assert DATA.image is not None
    assert DATA.words is not None
    assert DATA.word_offsets is not None
    pictures = {tuple(row): number for number, row in enumerate(DATA.image.astype(np.float32).tolist())}
    for batch in batches(feed()):
        items = batch.items
        assert items.image is not None
        assert items.words is not None
        assert items.owner is not None
        numbers = [pictures[tuple(row)] for row in items.image.tolist()]
        assert numbers == sorted(set(numbers))
        assert items.category.tolist() == [category_of(DATA, number) for number in numbers]
        assert len(items.bounds) == len(items.categories) + 1
        for run, category in enumerate(items.categories):
            assert set(items.category[items.bounds[run] : items.bounds[run + 1]].tolist()) == {category}
        for place, number in enumerate(numbers):
            own = DATA.words[DATA.word_offsets[number] : DATA.word_offsets[number + 1]]
            assert items.words[items.owner == place].tolist() == own.tolist()
        shown = batch.outfits.member.any(1)
        assert torch.equal(batch.outfits.category[shown], items.category[batch.outfits.node[shown]])
        assert not batch.outfits.node[~shown & (batch.outfits.category == 0)].lt(0).any()


def test_an_epoch_has_every_pair_once() -> None:
    made = feed()
    rows = made.pairs.take(2, np.arange(240))
    assert DATA.image is not None
    pictures = [tuple(row) for row in DATA.image.astype(np.float32).tolist()]
    expected = [
        tuple(frozenset(pictures[int(i)] for i in rows.items[p][rows.member[p, one]]) for one in (0, 1))
        for p in range(240)
    ]
    for shuffle in ("pairs", "outfits", "none"):
        found = [pair for batch in batches(feed(shuffle=shuffle), 2) for pair in sets(batch)]
        assert sorted(map(repr, map(sorted_pair, found))) == sorted(map(repr, map(sorted_pair, expected)))
        assert (found == expected) == (shuffle == "none")


def sorted_pair(pair: tuple[frozenset[tuple[float, ...]], ...]) -> list[list[tuple[float, ...]]]:
    return [sorted(one) for one in pair]


def test_pairs_of_an_outfit_may_stay_together() -> None:
    for batch in batches(feed(shuffle="outfits")):
        real = [pair[0] for pair in sets(batch)]
        assert len(set(real[:8])) == len(set(real[8:])) == 1
    orders = [
        [pair[0] for batch in batches(feed(shuffle="outfits"), epoch) for pair in sets(batch)] for epoch in (0, 1)
    ]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("shuffle", ["pairs", "outfits"])
def test_blocks_and_epochs(shuffle: str) -> None:
    whole = batches(feed(shuffle=shuffle), 1)
    made = feed(shuffle=shuffle)
    single = [made.block(1, range(u, u + 1)).updates[0].batches[0] for u in range(made.plan.updates)]
    assert [sets(batch) for batch in whole] == [sets(batch) for batch in single]
    assert [sets(batch) for batch in whole] != [sets(batch) for batch in batches(made, 2)]
    assert made.block(1, range(3, 3)).updates == []


def test_processes_share_a_batch() -> None:
    whole = batches(feed())
    parts = []
    for rank in range(3):
        made = feed()
        made.place(torch.device("cpu"), rank, 3)
        parts.append(batches(made))
    for number, batch in enumerate(whole):
        pairs = sets(batch)
        for rank in range(3):
            assert sets(parts[rank][number]) == pairs[rank::3]


def test_features_can_be_exchanged_within_a_category() -> None:
    order = exchanged(DATA.category_offsets, 3)
    assert sorted(order) == list(range(DATA.num_items))
    assert (DATA.category_of(order) == DATA.category_of(np.arange(DATA.num_items))).all()
    assert (order != np.arange(DATA.num_items)).mean() > 0.5
    assert DATA.image is not None
    own, other = PlacedItems(DATA), PlacedItems(DATA, shuffle_seed=3)
    items = np.arange(DATA.num_items)
    assert torch.equal(other.batch(items).image, torch.from_numpy(DATA.image[order].astype(np.float32)))  # type: ignore[arg-type]
    words, owner = other.batch(items).words, other.batch(items).owner
    expected_words, expected_owner = own.batch(items).words, own.batch(items).owner
    assert words is not None
    assert owner is not None
    assert expected_words is not None
    assert words[owner == 4].tolist() == expected_words[expected_owner == int(order[4])].tolist()


def test_without_features_only_categories_are_given() -> None:
    data = replace(DATA, image=None, words=None, word_offsets=None)
    items = batches(feed(data=data))[0].items
    assert items.image is None
    assert items.words is None
    assert data.modalities == {"category": 1}
