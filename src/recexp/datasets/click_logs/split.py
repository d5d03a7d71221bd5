"""Which part each row belongs to: a function of its number, so that neither chunks nor workers matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recexp.datasets.click_logs.recipe import Recipe

TRAIN, VAL, TEST, SUBSAMPLED, LEFT_OVER = range(5)
"""The parts of ``impressions.PARTS``; rows that subsampling leaves out, and those of a block that is not full."""

BLOCK = 1000

_Words = npt.NDArray[np.uint64]
_Parts = npt.NDArray[np.uint8]
_STEP = 1 << 20


class Split:
    """The parts of ``rows`` rows.

    Args:
        recipe: How they are cut.
        sources: Rows of each source, in order.
    """

    def __init__(self, recipe: Recipe, sources: Sequence[int]) -> None:
        self._recipe, self._rows = recipe, sum(sources)
        self._days = len(sources) if len(sources) > 1 else recipe.days
        if recipe.split == "days":
            self._bounds = _day_bounds(recipe.days, sources)
        elif recipe.split == "blocks":
            self._blocks = _blocks(recipe, self._rows)
        else:
            self._limits = self._hash_limits()

    def part_of(self, first: int, label: npt.NDArray[np.uint8]) -> _Parts:
        """uint8[N]: the parts of rows ``first`` and so on; their labels decide what subsampling leaves out."""
        row = np.arange(first, first + len(label))
        if self._recipe.split == "days":
            part = np.searchsorted(self._bounds, row, side="right").astype(np.uint8)
            part = np.array([TRAIN, TEST, VAL], np.uint8)[part]
        elif self._recipe.split == "blocks":
            part = self._blocks[row // BLOCK]
        else:
            place = np.searchsorted(self._limits, _hash(row, self._recipe.split_seed), side="right")
            part = np.array([TEST, VAL, TRAIN], np.uint8)[place]
        share = self._recipe.negative_subsampling
        if share > 0:
            drawn = _hash(row, ~self._recipe.split_seed & (2**64 - 1)) >> np.uint64(11)
            part[(label == 0) & (drawn < np.uint64(round(share * 2**53)))] = SUBSAMPLED
        return part

    def _hash_limits(self) -> _Words:
        """Bounds of the hash: below the first is test, then validation, with exactly as many rows as the shares say."""
        test = round(self._rows * self._recipe.test_share)
        wanted = [test, test + round(self._rows * self._recipe.validation_share)]
        return np.array([self._ranked(count) for count in wanted], np.uint64)

    def _ranked(self, count: int) -> int:
        """The hash that exactly ``count`` rows are below; hashes of different rows differ."""
        if count >= self._rows:
            return 2**64 - 1
        seed, starts = self._recipe.split_seed, range(0, self._rows, _STEP)
        spans = [(start, min(start + _STEP, self._rows)) for start in starts]
        counted = np.zeros(1 << 16, np.int64)
        for span in spans:
            counted += np.bincount((_hash(np.arange(*span), seed) >> np.uint64(48)).astype(np.int64), minlength=1 << 16)
        below = np.cumsum(counted) - counted
        chosen = int(np.searchsorted(below, count, side="right")) - 1
        inside = [each[each >> np.uint64(48) == chosen] for each in (_hash(np.arange(*span), seed) for span in spans)]
        return int(np.sort(np.concatenate(inside))[count - below[chosen]])

    def __str__(self) -> str:
        """In words."""
        recipe = self._recipe
        if recipe.split == "days":
            told = f"{self._days} days in order; of the last one the first half test, the second validation"
        elif recipe.split == "blocks":
            told = (
                f"blocks of {BLOCK:,} lines at random (seed {recipe.split_seed}): {recipe.test_share:g} test, "
                f"{recipe.validation_share:g} validation"
            )
        else:
            told = (
                f"rows at random (seed {recipe.split_seed}): {recipe.test_share:g} test, "
                f"{recipe.validation_share:g} validation"
            )
        share = recipe.negative_subsampling
        return f"{told}; {share:g} of the rows without a click left out" if share else told


def _day_bounds(days: int, sources: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where test begins, where validation begins."""
    # of one file the first days have one row more where days do not divide the rows
    last = sources[-1] if len(sources) > 1 else sources[0] // days
    begin = sum(sources) - last
    return np.array([begin, begin + -(-last // 2)], np.int64)


def _blocks(recipe: Recipe, rows: int) -> _Parts:
    """uint8[blocks + 1]: the part of each block; the last entry is what is left over.

    Test blocks are those of the source: all row numbers are shuffled by numpy's first generator, and a block is test
    if its last row is among the first tenth. Validation blocks are drawn from the others.
    """
    whole = rows // BLOCK
    generator = np.random.RandomState(recipe.split_seed)
    order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    generator.shuffle(order)
    chosen = order[: int(rows * recipe.test_share)]
    chosen = chosen[chosen % BLOCK == BLOCK - 1] // BLOCK
    part = np.zeros(whole + 1, np.uint8)
    part[chosen] = TEST
    part[whole] = LEFT_OVER
    others = np.flatnonzero(part == TRAIN)
    order_of = np.argsort(_hash(others, recipe.split_seed))
    part[others[order_of[: round(whole * recipe.validation_share)]]] = VAL
    return part


def _hash(row: npt.NDArray[np.int64], seed: int) -> _Words:
    """A number of 64 bits that no other row has: splitmix64 (Steele, Lea and Flood, 2014), keyed by the seed."""
    key = np.uint64(_mix_seed(seed))
    word = (row.astype(np.uint64) + key) * np.uint64(0x9E3779B97F4A7C15)
    word ^= word >> np.uint64(30)
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    return word


def _mix_seed(seed: int) -> int:
    """Seeds that are neighbours do not give neighbouring sequences."""
    word = (seed + 0x9E3779B97F4A7C15) & (2**64 - 1)
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    return word ^ word >> 31
