"""Sums over predicted probabilities of clicks, from which log loss, accuracy and calibration follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Bins of equal width of the expected calibration error; bin k holds probabilities from k/15 on, the last one 1, too.
ECE_BINS = 15
#: Rows whose double-precision values exist at once.
BLOCK = 1 << 18


@dataclass
class ProbabilitySums:
    """What the rows seen add up to, in double precision.

    Attributes:
        loss: Sum of the rows' log losses.
        correct: Rows on the right side of probability 0.5; exactly 0.5 predicts no click (rounding half to even).
        rows: Int64 [ECE_BINS], by the bin of the prediction.
        clicks: The same of the rows with a click.
        predicted: Sum of the predictions in each bin, float64 [ECE_BINS].
    """

    loss: float = 0.0
    correct: int = 0
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ECE_BINS, np.int64))
    clicks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ECE_BINS, np.int64))
    predicted: Floats = field(default_factory=lambda: np.zeros(ECE_BINS))

    def add(self, logits: NDArray[np.float32], *, clicked: bool) -> None:
        """Add rows of one class.

        Args:
            logits: Log-odds of a click, [N]; the loss of an infinite one on the wrong side is infinite.
            clicked: Their label.
        """
        for start in range(0, len(logits), BLOCK):
            block = logits[start : start + BLOCK].astype(np.float64)
            # Of the wrong answer, as odds: log1p(exp(.)) of what speaks against the label.
            against = -block if clicked else block
            small = np.exp(-np.abs(block))
            self.loss += float(np.sum(np.maximum(against, 0.0) + np.log1p(small)))
            self.correct += int(np.count_nonzero(block > 0 if clicked else block <= 0))
            probability = np.where(block >= 0, 1.0, small) / (1.0 + small)
            bins = np.minimum((probability * ECE_BINS).astype(np.int64), ECE_BINS - 1)
            counted = np.bincount(bins, minlength=ECE_BINS)
            self.rows += counted
            if clicked:
                self.clicks += counted
            self.predicted += np.bincount(bins, probability, ECE_BINS)

    def packed(self) -> Floats:
        """All sums in one row; counts stay exact up to 2^53."""
        return np.concatenate(([self.loss, self.correct], self.rows, self.clicks, self.predicted)).astype(np.float64)

    @classmethod
    def of(cls, packed: Floats) -> ProbabilitySums:
        """What :meth:`packed` (or a sum of such) stands for."""
        rows, clicks, predicted = packed[2:].reshape(3, ECE_BINS)
        return cls(float(packed[0]), int(packed[1]), rows.astype(np.int64), clicks.astype(np.int64), predicted)

    def metrics(self) -> dict[str, float]:
        """``logloss``, ``accuracy``, ``calibration`` (mean prediction over the share of clicks) and ``ece``.

        NaN where there are no rows, and calibration where there is no click.
        """
        total, clicks = int(self.rows.sum()), int(self.clicks.sum())
        if not total:
            return dict.fromkeys(("logloss", "accuracy", "calibration", "ece"), math.nan)
        return {
            "logloss": self.loss / total,
            "accuracy": self.correct / total,
            "calibration": float(self.predicted.sum()) / clicks if clicks else math.nan,
            "ece": float(np.abs(self.predicted - self.clicks).sum()) / total,
        }


def base_rate_metrics(rate: float, *, clicks: int, rows: int) -> dict[str, float]:
    """What predicting one probability for every row gives: the floor of each metric.

    Args:
        rate: The prediction, usually the share of clicks in training.
        clicks: Rows with a click among those evaluated.
        rows: All of them.

    Raises:
        ValueError: ``rate`` is no probability, or ``clicks`` is no part of ``rows``.
    """
    if not 0 <= rate <= 1 or not 0 <= clicks <= rows:
        raise ValueError(f"rate={rate!r} (0 to 1), clicks={clicks!r} (0 to rows={rows!r})")
    with np.errstate(divide="ignore"):
        logit = np.log(np.float64(rate)) - np.log1p(-np.float64(rate))
    sums = ProbabilitySums()
    share = clicks / rows if rows else math.nan
    wrong = [(clicks, rate), (rows - clicks, 1 - rate)]
    sums.loss = sum(-count * math.log(p) if p else (math.inf if count else 0.0) for count, p in wrong)
    sums.correct = clicks if logit > 0 else rows - clicks
    place = min(int(rate * ECE_BINS), ECE_BINS - 1)
    sums.rows[place], sums.clicks[place], sums.predicted[place] = rows, clicks, rate * rows
    return {"auc": 0.5 if 0 < clicks < rows else math.nan, "ap": share if clicks else math.nan, **sums.metrics()}
