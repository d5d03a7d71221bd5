"""What the tests of the outfit problem share: small random outfits with features, and golden cases by name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from recexp.datasets.events import DataMeta
from recexp.datasets.outfits import Category, Outfits, PublishedQuestions
from tests.support.click_cases import golden

__all__ = ["golden", "random_outfits"]


def random_outfits(
    *,
    train: int = 40,
    val: int = 0,
    test: int = 12,
    categories: int = 9,
    width: int = 5,
    num_words: int = 13,
    longest: int = 6,
    features: bool = True,
    published: PublishedQuestions | None = None,
    seed: int = 0,
) -> Outfits:
    """Outfits of one to ``longest`` items, one of a category; every item is in one outfit, or in two."""
    draw = np.random.default_rng(seed)
    total = train + val + test
    chosen = [draw.permutation(categories)[: draw.integers(1, longest + 1)] for _ in range(total)]
    of_item = np.sort(np.concatenate([*chosen, np.arange(categories)]))
    offsets = np.searchsorted(of_item, np.arange(categories + 1)).astype(np.int64)
    members = [int(draw.integers(offsets[c], offsets[c + 1])) for own in chosen for c in own]
    count = len(of_item)
    sizes = draw.integers(0, 4, count)
    words = [np.sort(draw.permutation(num_words)[:n]) for n in sizes]
    return Outfits(
        category_offsets=offsets,
        members=np.array(members, dtype=np.int32),
        offsets=np.concatenate(([0], np.cumsum([len(own) for own in chosen]))).astype(np.int64),
        bounds=(0, train, train + val, total),
        categories=tuple(Category(str(100 + c), f"category {c}") for c in range(categories)),
        item_labels=np.array([f"i{n}" for n in range(count)]),
        outfit_labels=np.array([f"o{n}" for n in range(total)]),
        meta=DataMeta("random", "0" * 64, "", "test", True, total),
        image=draw.normal(size=(count, width)).astype(np.float16) if features else None,
        words=np.concatenate(words).astype(np.int32) if features else None,
        word_offsets=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64) if features else None,
        num_words=num_words if features else 0,
        published=published,
    )


def outfit(data: Outfits, number: int) -> list[int]:
    """Items of an outfit."""
    return [int(item) for item in data.members[data.offsets[number] : data.offsets[number + 1]]]


def category_of(data: Outfits, item: int) -> int:
    """By looking at every bound."""
    bounds = list(pairwise(int(n) for n in data.category_offsets))
    return next(c for c, (first, last) in enumerate(bounds) if first <= item < last)


def written(data: Outfits, items: list[int], position: int, instead: int) -> set[int]:
    """The outfit as the reference fills its array of categories: one after the other, the later one stays."""
    slots: dict[int, int] = {}
    for place, item in enumerate(items):
        put = instead if place == position else item
        slots[category_of(data, put)] = put
    return set(slots.values())
