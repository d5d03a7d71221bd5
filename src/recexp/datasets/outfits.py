"""Outfits: which items were worn together, what is known of each item, and questions that others have published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import Array, DataMeta
from recexp.datasets.impressions import PARTS

UNKNOWN, UNUSED = -1, -2
"""In published questions: an item that is not in this data; a slot that a shorter question does not use."""


@dataclass(frozen=True)
class Category:
    """What kind of item: the source's id of it, and its name where one is known."""

    id: str
    name: str


@dataclass(frozen=True)
class PublishedQuestions:
    """Questions with answers, the same for everybody who uses them; items by number, UNKNOWN or UNUSED.

    Shapes: Q questions, W slots, A answers; M outfits, V slots. ``context`` int32[Q, W]: the outfit without one item.
    ``position`` int32[Q]: where that item was, from 0. ``answers`` int32[Q, A]: the first is the true one. ``outfit``
    int32[M, V] and ``label`` uint8[M]: outfits, 1 for one that people made.
    """

    context: npt.NDArray[np.int32]
    position: npt.NDArray[np.int32]
    answers: npt.NDArray[np.int32]
    outfit: npt.NDArray[np.int32]
    label: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Outfits:
    """All outfits of a dataset, those of training first, then validation, then test.

    Shapes: N items, C categories, O outfits, E memberships. Items are numbered category by category: those of category
    c are ``category_offsets[c]:category_offsets[c + 1]`` (int64[C + 1]). ``members`` int32[E]: the items of outfit o
    are ``members[offsets[o]:offsets[o + 1]]`` (int64[O + 1]), in the source's order, at most one of a category.
    ``bounds``: outfits ``bounds[p]:bounds[p + 1]`` are part p of ``PARTS``. ``item_labels`` [N] and ``outfit_labels``
    [O] are the source's names (text).

    ``image`` float16[N, D]: a vector of each item's picture. ``words`` int32[T], ascending within an item, and
    ``word_offsets`` int64[N + 1]: item i has the words ``words[word_offsets[i]:word_offsets[i + 1]]`` of
    0..num_words - 1. Both None where the data is used without: then only the category of an item is known.
    """

    category_offsets: npt.NDArray[np.int64]
    members: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    bounds: tuple[int, int, int, int]
    categories: tuple[Category, ...]
    item_labels: Array
    outfit_labels: Array
    meta: DataMeta
    image: npt.NDArray[np.float16] | None = None
    words: npt.NDArray[np.int32] | None = None
    word_offsets: npt.NDArray[np.int64] | None = None
    num_words: int = 0
    published: PublishedQuestions | None = None

    def __len__(self) -> int:
        """Number of outfits."""
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """N."""
        return int(self.category_offsets[-1])

    @property
    def modalities(self) -> dict[str, int]:
        """Width of the input by the name of what is known: ``image``, ``text``, or ``category`` where nothing else."""
        known = {}
        if self.image is not None:
            known["image"] = int(self.image.shape[1])
        if self.words is not None:
            known["text"] = self.num_words
        return known or {"category": 1}

    def category_of(self, items: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Category of each item, int64, same shape."""
        return np.searchsorted(self.category_offsets, items, side="right") - 1

    def part(self, name: str) -> range:
        """Outfits of a part, one of ``PARTS``."""
        at = PARTS.index(name)
        return range(self.bounds[at], self.bounds[at + 1])
