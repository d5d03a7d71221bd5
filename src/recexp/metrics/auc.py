"""Area under the ROC curve and average precision of scores with ties: exact from all of them, or from a histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Counts = NDArray[np.int64]

#: Finite bins of a histogram cover these log-odds; what is beyond is in the first and the last bin.
LARGEST_LOGIT = 16.0


@dataclass(frozen=True)
class Curve:
    """Negatives below each positive: all that both areas need. Made once from sorted scores.

    Shapes: P positives, in ascending order of their scores. ``below`` and ``not_above`` int64 [P]: negatives that score
    less, and no more. ``first`` int64 [P]: positives that score less.
    """

    below: Counts
    not_above: Counts
    first: Counts
    negatives: int

    @classmethod
    def of(cls, positive: Scores, negative: Scores) -> Curve:
        """The curve of sorted scores of both classes, without NaN."""
        return cls(
            below=negative.searchsorted(positive, "left"),
            not_above=negative.searchsorted(positive, "right"),
            first=positive.searchsorted(positive, "left"),
            negatives=len(negative),
        )

    def roc_auc(self) -> float:
        """Share of (positive, negative) pairs in which the positive scores more, equals counted half.

        NaN where one class is absent. The pairs are counted in int64: neither order nor rounding plays a part.
        """
        pairs = len(self.below) * self.negatives
        twice = int(self.below.sum()) + int(self.not_above.sum())
        return twice / (2 * pairs) if pairs else math.nan

    def average_precision(self) -> float:
        """Mean over the positives of the precision at their score: sum of (R_n - R_n-1) P_n over distinct thresholds.

        NaN where there is no positive.
        """
        if not len(self.first):
            return math.nan
        found = len(self.first) - self.first
        return float(np.mean(found / (found + self.negatives - self.below)))


def roc_auc(scores: Scores, labels: NDArray[np.uint8]) -> float:
    """Exact area under the ROC curve, ties counted half; NaN where a class is absent or a score is NaN. Shapes: [N]."""
    if np.isnan(scores).any():
        return math.nan
    clicked = labels.astype(bool)
    return Curve.of(np.sort(scores[clicked]), np.sort(scores[~clicked])).roc_auc()


@dataclass(frozen=True)
class HistogramAreas:
    """Areas from counts.

    Attributes:
        auc: Pairs within a bin counted half; the exact area lies within ``error_bound`` of it.
        error_bound: Half of the pairs that share a bin, over all pairs.
        average_precision: Of the scores rounded to their bins.
    """

    auc: float
    error_bound: float
    average_precision: float


def bin_of(logits: Scores, bins: int) -> Counts:
    """Number of the bin of each log-odds, [N]: of equal width between both ends of `LARGEST_LOGIT`; no NaN."""
    inside = np.clip(logits.astype(np.float64), -LARGEST_LOGIT, LARGEST_LOGIT)
    number = ((inside + LARGEST_LOGIT) * (bins / (2 * LARGEST_LOGIT))).astype(np.int64)
    return np.minimum(number, bins - 1)


def histogram_areas(positive: Counts, negative: Counts) -> HistogramAreas:
    """Areas from the numbers of positives and negatives in each bin, ascending, int64 [bins]; NaN without a class."""
    clicks, others = int(positive.sum()), int(negative.sum())
    if not clicks:
        return HistogramAreas(math.nan, math.nan, math.nan)
    below = np.cumsum(negative) - negative
    found = np.cumsum(positive[::-1])[::-1]
    shown = found + np.cumsum(negative[::-1])[::-1]
    precision = np.divide(found, shown, out=np.zeros(len(found)), where=shown > 0)
    ap = float((precision * positive).sum() / clicks)
    if not others:
        return HistogramAreas(math.nan, math.nan, ap)
    # The products fit int64 for any data that fits a disk: 9e18 pairs are 3e9 rows of each class.
    within = int((positive * negative).sum())
    less = int((positive * below).sum())
    pairs = clicks * others
    return HistogramAreas((2 * less + within) / (2 * pairs), within / (2 * pairs), ap)
