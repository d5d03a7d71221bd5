"""Scores of outfits by nothing but the categories of their items: what any model of items has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recexp.datasets.outfits import Outfits
from recexp.problems.outfit_arrays import NOTHING, Ids, Mask, categories, padded

#: Rows whose pairs exist at once.
_BLOCK = 8192


@dataclass(frozen=True)
class CategoryCounts:
    """What training outfits say of categories.

    Attributes:
        outfits: Their number.
        count: Outfits with each category, float64 [C].
        together: Outfits with both, float64 [C, C], 0 on the diagonal.
    """

    outfits: int
    count: NDArray[np.float64]
    together: NDArray[np.float64]

    @classmethod
    def of(cls, data: Outfits, outfits: Ids) -> CategoryCounts:
        """Count."""
        category = categories(data, padded(data, outfits))
        present = np.zeros((len(outfits), len(data.category_offsets) - 1), dtype=np.float32)
        rows, columns = np.nonzero(category != NOTHING)
        present[rows, category[rows, columns]] = 1
        # Sums of ones are exact in float32 up to 2^24 outfits.
        together = (present.T @ present).astype(np.float64)
        np.fill_diagonal(together, 0)
        return cls(len(outfits), present.sum(axis=0, dtype=np.float64), together)

    def conditional(self) -> NDArray[np.float32]:
        """Share of the outfits with category i that have j, too, [C, C]; 0 where i never occurs."""
        return (self.together / np.maximum(self.count, 1)[:, None]).astype(np.float32)

    def scores(self, category: Ids, named: Mask) -> NDArray[np.float32]:
        """Sum of log frequencies plus pairwise pointwise mutual information, without learning.

        sum_i log p(i) + sum_{i < j} log((co_ij + 1) / (n_i n_j / N + 1)).

        Args:
            category: Of nodes, NOTHING where there is none, [Q, W].
            named: Nodes that each outfit names, [Q, K, W]; the same category twice is a pair that never occurs.

        Returns:
            [Q, K].
        """
        seen = np.maximum(self.count, 0.5)  # a category that no training outfit has is rarer than any other
        alone = np.log(seen / max(float(self.count.sum()), 1.0))
        expected = np.outer(self.count, self.count) / max(self.outfits, 1)
        pairs = np.log((self.together + 1) / (expected + 1))
        found = [
            _sums(alone, pairs, category[first : first + _BLOCK], named[first : first + _BLOCK])
            for first in range(0, len(category), _BLOCK)
        ]
        return np.concatenate(found) if found else np.zeros(named.shape[:2], np.float32)


def _sums(alone: NDArray[np.float64], pairs: NDArray[np.float64], category: Ids, named: Mask) -> NDArray[np.float32]:
    at = np.maximum(category, 0)
    weight = named.astype(np.float64)
    # A node is no pair with itself.
    between = pairs[at[:, :, None], at[:, None, :]] * (1 - np.eye(category.shape[1]))
    total = np.einsum("qkw,qw->qk", weight, alone[at]) + np.einsum("qki,qij,qkj->qk", weight, between, weight) / 2
    scores: NDArray[np.float32] = total.astype(np.float32)
    return scores
