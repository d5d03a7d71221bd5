"""Generated outfits: categories by how often and how they are worn together, items by a style that features show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import Generator, Philox, SeedSequence

from recexp.datasets.events import DataMeta
from recexp.datasets.outfits import UNKNOWN, UNUSED, Category, Outfits, PublishedQuestions
from recexp.errors import ConfigError

Ids = npt.NDArray[np.int64]

GENERATOR = 2
"""Goes up whenever the same recipe would give other outfits."""
SHORTEST, LONGEST = 3, 8
"""Items of an outfit, as in the filtered real ones."""
#: Frequency of categories falls as 1 / rank ** this; an occasion wears a share of them, and others rarely.
_STEEPNESS, _OCCASIONS, _WORN, _RARELY = 0.7, 6, 0.3, 0.1
#: Numbers of a style; how far items differ within it; how much of it a number of a picture shows beside noise of 1; and
#: what all is multiplied by, so that 2,048 such numbers together move a first state neither to -1 nor to 1.
_LATENT, _WITHIN, _SHOWN, _SCALE = 8, 0.3, 1.5, 0.15
#: Slots for words of an item, the share of them that its style fills, and how general words fall in frequency.
_SLOTS, _STYLE_WORDS, _WORD_STEEPNESS, _LONGEST_LIST = 8, 0.85, 1.1, 6
ANSWERS = 4
#: For so many outfits of training there is one of validation and one of test; and so with items of their own.
_OUTFIT_SHARE, _ITEM_SHARE = 10, 4
#: Words are at least so many times the styles.
_WORD_SHARE = 8
#: Share of slots in published questions that name an item which is not in the data.
_UNKNOWN = 0.02
# What a stream of random numbers is for. Each has its own, so that one size does not shift what others give.
_STYLE, _MAP, _PICTURE, _WORDS, _LISTS, _OCCASION, _OUTFIT, _QUESTION = range(8)


@dataclass(frozen=True)
class Recipe:
    """What is planted.

    Attributes:
        outfits: Training outfits; validation and test have a tenth of them each.
        categories: Number of categories; an outfit has at most one item of each.
        items_per_category: Items that training outfits draw from.
        styles: Number of styles; every item has one.
        structure: Probability that an item of an outfit is of the outfit's style; else any. 0: nothing to find.
        new_items: Validation and test outfits have items of their own, a fourth as many: nothing of a test outfit was
            seen in training then. False: all outfits draw from the same items.
        image_width: Width of the pictures' vectors.
        num_words: Number of words.
        seed: Of the generator.
    """

    outfits: int = 3000
    categories: int = 40
    items_per_category: int = 120
    styles: int = 6
    structure: float = 0.9
    new_items: bool = False
    image_width: int = 2048
    num_words: int = 2757
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other.

        Raises:
            ConfigError: with all of them.
        """
        problems = []
        if self.categories < LONGEST:
            problems.append(
                f"dataset.categories={self.categories}: at least {LONGEST}, since an outfit has up to {LONGEST} items, "
                "at most one of each category."
            )
        if self.items_per_category < _ITEM_SHARE * self.styles:
            problems.append(
                f"dataset.items_per_category={self.items_per_category}: at least {_ITEM_SHARE} times dataset.styles="
                f"{self.styles}, so that a fourth of them (dataset.new_items=true) has every style."
            )
        if self.num_words < _WORD_SHARE * self.styles:
            problems.append(
                f"dataset.num_words={self.num_words}: at least {_WORD_SHARE} times dataset.styles={self.styles}, so "
                "that every style has words of its own and most words are of none."
            )
        if problems:
            raise ConfigError(problems)

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Recipe:
        """From the ``dataset`` node of a configuration."""
        return cls(**{name: dataset[name] for name in cls.__dataclass_fields__ if name in dataset})

    @property
    def part_outfits(self) -> tuple[int, int, int]:
        """Outfits of training, validation and test."""
        return self.outfits, max(1, self.outfits // _OUTFIT_SHARE), max(1, self.outfits // _OUTFIT_SHARE)

    @property
    def pools(self) -> tuple[int, ...]:
        """Items of each category: one pool for all outfits, or one for training, validation and test each."""
        own = self.items_per_category // _ITEM_SHARE
        return (self.items_per_category, own, own) if self.new_items else (self.items_per_category,)

    @property
    def width(self) -> int:
        """Items of each category."""
        return sum(self.pools)

    def pool(self, part: int) -> tuple[int, int]:
        """Those that outfits of a part draw from: the first one, and how many."""
        own = part if self.new_items else 0
        return sum(self.pools[:own]), self.pools[own]


def stream(recipe: Recipe, *purpose: int) -> Generator:
    """Random numbers for one purpose."""
    return Generator(Philox(SeedSequence([recipe.seed, *purpose])))


def generate(recipe: Recipe) -> Outfits:
    """All outfits of a recipe, with features and questions, in memory."""
    width = recipe.width
    parts = [_outfits(recipe, part) for part in range(len(recipe.part_outfits))]
    items = np.concatenate(parts)
    present = items != UNUSED
    offsets = np.concatenate(([0], present.sum(axis=1).cumsum()))
    words, word_offsets = _words(recipe)
    outfits = np.cumsum((0, *recipe.part_outfits)).tolist()
    return Outfits(
        category_offsets=np.arange(recipe.categories + 1) * width,
        members=items[present].astype(np.int32),
        offsets=offsets,
        bounds=(outfits[0], outfits[1], outfits[2], outfits[3]),
        categories=tuple(Category(f"{1000 + c}", f"category {c}") for c in range(recipe.categories)),
        item_labels=np.array([f"{1000 + c}_{k}" for c in range(recipe.categories) for k in range(width)]),
        outfit_labels=np.array([f"{1 + o}" for o in range(len(items))]),
        image=_pictures(recipe),
        words=words,
        word_offsets=word_offsets,
        num_words=recipe.num_words,
        published=_questions(recipe, parts[-1]),
        meta=DataMeta(
            name="", fingerprint="", licence="", origin=f"generated ({len(items):,} outfits, seed {recipe.seed})",
            synthetic=True, rows_read=len(items),
        ),
    )  # fmt: skip


def style_of(recipe: Recipe) -> Ids:
    """Style of each item."""
    within = np.concatenate([np.arange(size) % recipe.styles for size in recipe.pools])
    return np.tile(within, recipe.categories)


def _outfits(recipe: Recipe, part: int) -> Ids:
    """Outfits of a part, [O, LONGEST], UNUSED behind the last item: categories know nothing of styles."""
    count = recipe.part_outfits[part]
    first, size = recipe.pool(part)
    worn = stream(recipe, _OCCASION).random((recipe.categories, _OCCASIONS)) < _WORN
    weight = np.where(worn, 1.0, _RARELY) / (np.arange(1, recipe.categories + 1) ** _STEEPNESS)[:, None]
    draws = stream(recipe, _OUTFIT, part, 0).random((count, 3))
    length = SHORTEST + (draws[:, 0] * (LONGEST + 1 - SHORTEST)).astype(np.int64)
    occasion, style = ((draws[:, n] * k).astype(np.int64) for n, k in ((1, _OCCASIONS), (2, recipe.styles)))
    # The largest of logarithms of weights plus Gumbel noise are draws without replacement.
    noise = stream(recipe, _OUTFIT, part, 1).gumbel(size=(count, recipe.categories))
    category = np.argsort(-(np.log(weight[:, occasion]).T + noise), axis=1)[:, :LONGEST]
    chance, which = np.moveaxis(stream(recipe, _OUTFIT, part, 2).random((count, LONGEST, 2)), 2, 0)
    # Item k has style k modulo their number.
    of_style = (size - 1 - style) // recipe.styles + 1
    inside = style[:, None] + recipe.styles * (which * of_style[:, None]).astype(np.int64)
    item = np.where(chance < recipe.structure, inside, (which * size).astype(np.int64))
    return np.where(np.arange(LONGEST) < length[:, None], category * recipe.width + first + item, UNUSED)


def _pictures(recipe: Recipe) -> npt.NDArray[np.float16]:
    """Picture of each item, [N, D]: each category shows the style's numbers in its own linear way, none negative."""
    styles = np.stack([stream(recipe, _STYLE, s).standard_normal(_LATENT) for s in range(recipe.styles)])
    styles *= np.sqrt(_LATENT) / np.linalg.norm(styles, axis=1, keepdims=True)
    width = recipe.width
    pictures = np.empty((recipe.categories * width, recipe.image_width), np.float16)
    for category in range(recipe.categories):
        shown = stream(recipe, _MAP, category).standard_normal((recipe.image_width, _LATENT), dtype=np.float32).T
        shown = shown * _SHOWN / np.sqrt(_LATENT)
        for pool, size in enumerate(recipe.pools):
            own = stream(recipe, _PICTURE, category, pool, 0).standard_normal((size, _LATENT))
            latent = styles[np.arange(size) % recipe.styles] + _WITHIN * own
            first = category * recipe.width + sum(recipe.pools[:pool])
            noise = stream(recipe, _PICTURE, category, pool, 1).standard_normal(
                (size, recipe.image_width), dtype=np.float32
            )
            pictures[first : first + size] = _SCALE * np.maximum(latent.astype(np.float32) @ shown + noise, 0)
    return pictures


def _words(recipe: Recipe) -> tuple[npt.NDArray[np.int32], Ids]:
    """Words of each item and where they begin: some of its style's list, the rest of words that say nothing."""
    order = stream(recipe, _LISTS).permutation(recipe.num_words)
    listed = min(_LONGEST_LIST, recipe.num_words // (2 * recipe.styles))
    general = order[recipe.styles * listed :]
    cumulated = np.cumsum(1 / np.arange(1, len(general) + 1) ** _WORD_STEEPNESS)
    pairs, width = [], recipe.width
    for category in range(recipe.categories):
        for pool, size in enumerate(recipe.pools):
            style = np.arange(size) % recipe.styles
            draws = stream(recipe, _WORDS, category, pool).random((size, _SLOTS, 3))
            used, kind, which = np.moveaxis(draws, 2, 0)
            own = order[style[:, None] * listed + (which * listed).astype(np.int64)]
            any_word = general[
                np.searchsorted(cumulated, which * cumulated[-1], side="right").clip(max=len(general) - 1)
            ]
            word = np.where(kind < _STYLE_WORDS, own, any_word)
            item = category * recipe.width + sum(recipe.pools[:pool]) + np.arange(size)
            pairs.append((item[:, None] * recipe.num_words + word)[used < 2 / 3])
    item, word = np.divmod(np.unique(np.concatenate(pairs)), recipe.num_words)
    counts = np.bincount(item, minlength=recipe.categories * width)
    return word.astype(np.int32), np.concatenate(([0], counts.cumsum()))


def _questions(recipe: Recipe, outfits: Ids) -> PublishedQuestions:
    """One question of each test outfit, every other one with answers of one category; and as many false outfits."""
    (first, size), count, width = recipe.pool(2), len(outfits), recipe.width
    draw = stream(recipe, _QUESTION)
    length = (outfits != UNUSED).sum(axis=1)
    position = (draw.random(count) * length).astype(np.int64)
    rows = np.arange(count)
    true = outfits[rows, position]
    is_same = (rows % 2 == 0)[:, None]
    other = (true // width)[:, None] + 1 + draw.integers(0, recipe.categories - 1, (count, ANSWERS - 1))
    category = np.where(is_same, (true // width)[:, None], other % recipe.categories)
    # Never the true one.
    turned = (true % width - first)[:, None] + 1 + draw.integers(0, size - 1, category.shape)
    wrong = category * width + first + turned % size
    columns = np.arange(LONGEST - 1)
    context = np.take_along_axis(outfits, columns + (columns >= position[:, None]), axis=1)
    unknown = draw.random((2, count, LONGEST)) < _UNKNOWN
    context = np.where((context != UNUSED) & unknown[0, :, : LONGEST - 1], UNKNOWN, context)
    wrong = np.where(unknown[1, :, : ANSWERS - 1], UNKNOWN, wrong)
    worn = np.where(outfits == UNUSED, 0, outfits) // width
    drawn = np.argsort(draw.random((count, recipe.categories)), axis=1)[:, :LONGEST]
    any_item = draw.integers(0, size, (count, LONGEST))
    false = np.where(is_same, worn, drawn) * width + first + any_item
    false = np.where(outfits == UNUSED, UNUSED, false)
    return PublishedQuestions(
        context=context.astype(np.int32),
        position=position.astype(np.int32),
        answers=np.concatenate((true[:, None], wrong), axis=1).astype(np.int32),
        outfit=np.concatenate((outfits, false)).astype(np.int32),
        label=np.repeat(np.array([1, 0], np.uint8), count),
    )
