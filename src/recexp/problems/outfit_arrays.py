"""Outfits as padded rows, and the items that negatives are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from recexp.datasets.outfits import Outfits

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Fills the columns that an outfit does not use.
NOTHING = -1


def padded(data: Outfits, outfits: Ids) -> Ids:
    """Items of outfits, int64 [O, W], W the longest of the dataset; NOTHING on the right."""
    lengths = np.diff(data.offsets)
    width = int(lengths.max(initial=1))
    columns = np.arange(width)
    own = lengths[outfits]
    places = np.minimum(data.offsets[outfits][:, None] + columns, max(len(data.members) - 1, 0))
    return np.where(columns < own[:, None], data.members[places].astype(np.int64), NOTHING)


def categories(data: Outfits, items: Ids) -> Ids:
    """Category of each item, NOTHING where there is none."""
    return np.where(items == NOTHING, NOTHING, data.category_of(items))


@dataclass(frozen=True)
class Pool:
    """Items to draw negatives from, by category: ``items[offsets[c]:offsets[c + 1]]`` are those of category c."""

    items: Ids
    offsets: Ids

    @classmethod
    def of(cls, data: Outfits, outfits: Ids) -> Pool:
        """The items of some outfits, each once."""
        rows = padded(data, outfits)
        items = np.unique(rows[rows != NOTHING])
        return cls(items, np.searchsorted(items, data.category_offsets))

    def filled_up(self, other: Pool, least: int) -> Pool:
        """The same, with the items of ``other`` in categories that have fewer than ``least`` here, and more there."""
        categories = range(len(self.offsets) - 1)
        enough = (self.sizes >= least) | (self.sizes >= other.sizes)
        parts = [self if enough[c] else other for c in categories]
        own = [pool.items[pool.offsets[c] : pool.offsets[c + 1]] for c, pool in zip(categories, parts, strict=True)]
        return Pool(np.concatenate(own), np.concatenate(([0], np.cumsum([len(items) for items in own]))))

    @property
    def sizes(self) -> Ids:
        """Items of each category."""
        return np.diff(self.offsets)

    def of_categories(self, category: Ids, number: Ids) -> Ids:
        """One item of each category: its ``number``-th, counted round and round; NOTHING where it has none."""
        size = self.sizes[category]
        place = self.offsets[category] + number % np.maximum(size, 1)
        return np.where(size > 0, self.items[np.minimum(place, len(self.items) - 1)], NOTHING)

    def other_than(self, category: Ids, number: Ids, than: Ids) -> Ids:
        """The same, but the next item where it is ``than``; only in a category of one item that item itself."""
        drawn = self.of_categories(category, number)
        return np.where(drawn == than, self.of_categories(category, number + 1), drawn)

    def distinct(self, category: Ids, than: Ids, count: int, draw: Generator) -> Ids:
        """Different items of each category, none of them ``than``, [Q, count]; items repeat where there are too few.

        Args:
            category: [Q].
            than: An item, of the pool or not, [Q].
            count: Items for each.
            draw: Where chance comes from.
        """
        size = self.sizes[category]
        place = np.searchsorted(self.items, than)
        known = (place < len(self.items)) & (self.items[np.minimum(place, len(self.items) - 1)] == than)
        # Places within the category that are taken, ascending; one behind the last is none.
        taken = np.where(known, place - self.offsets[category], size)[:, None]
        found = []
        for _ in range(count):
            free = size - (taken < size[:, None]).sum(axis=1)
            number = draw.integers(0, np.maximum(free, 1))
            for column in range(taken.shape[1]):
                number = number + (number >= taken[:, column])
            found.append(self.of_categories(category, number))
            taken = np.sort(np.concatenate((taken, np.minimum(number, size)[:, None]), axis=1), axis=1)
        return np.stack(found, axis=1)

    def filled(self) -> Ids:
        """Categories that have an item."""
        return np.flatnonzero(self.sizes)


def in_place_of(category: Ids, position: Ids, drawn: Ids) -> tuple[Mask, Mask]:
    """Who stays when an item is put in another one's place: a graph has one node of a category.

    As in the reference, nodes are written in the order of the outfit, and the later one of a category stays.

    Args:
        category: Of the outfit's items, NOTHING where there is none, [Q, W].
        position: Column of the item that is replaced, [Q].
        drawn: Category of what comes in its place, [Q].

    Returns:
        Which of the outfit's items stay, [Q, W], and whether the new one does, [Q].
    """
    columns = np.arange(category.shape[1])
    kept = (category != NOTHING) & (columns != position[:, None])
    same = kept & (category == drawn[:, None])
    later = columns > position[:, None]
    return kept & ~(same & ~later), ~(same & later).any(axis=1)


def last_of_category(category: Ids) -> Mask:
    """Which items of rows stay where each category has one node, the last one, bool [Q, W]."""
    width = category.shape[1]
    same = category[:, :, None] == category[:, None, :]
    after = np.triu(np.ones((width, width), dtype=bool), 1)
    kept: Mask = (category != NOTHING) & ~(same & after).any(axis=2)
    return kept
