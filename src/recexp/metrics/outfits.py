"""How well outfits are told apart: fill in the blank with ties, pairs, and the spread of repeated questions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Credit = NDArray[np.float64]

#: What a question earns whose true answer ties with others for the highest score: ``fair`` its share of a draw among
#: them, ``first`` all (arg-max takes the first, which is the true one in the reference), ``strict`` nothing.
TIES = ("fair", "first", "strict")
#: Scores that differ by less, relative to the best, are equal: sums of the same numbers in another order.
ROUNDING = 1e-6


def blank_credit(scores: Scores, ties: str = "fair") -> Credit:
    """What each question earns, [Q], of scores [Q, A] whose first column is the true answer.

    A question with a score that is no number earns nothing: a diverged model must not look like a guessing one.
    """
    if ties not in TIES:
        raise ValueError(f"ties={ties!r}: one of {', '.join(TIES)}")
    best = scores.max(axis=1, keepdims=True)
    room = np.where(np.isfinite(best), ROUNDING * np.maximum(np.abs(best), 1), 0)
    among_best = scores >= best - room
    tied = among_best.sum(axis=1)
    hit = among_best[:, 0] & ~np.isnan(scores).any(axis=1)
    share = {"fair": 1 / np.maximum(tied, 1), "first": np.ones(len(scores)), "strict": (tied == 1).astype(np.float64)}
    return np.where(hit, share[ties], 0.0)


def pair_credit(real: Scores, other: Scores) -> Credit:
    """1 where the real outfit of a pair scores more, 1/2 where both score the same, [P]."""
    room = np.where(np.isfinite(real), ROUNDING * np.maximum(np.abs(real), 1), 0)
    credit: Credit = 0.5 * (other <= real + room) + 0.5 * (other < real - room)
    return credit


def repeated(credit: Credit, repeats: int) -> tuple[float, float]:
    """Mean of all questions, and its standard error over drawing them again: sd of the repeats' means / sqrt(repeats).

    Args:
        credit: [repeats * Q], repeat by repeat.
        repeats: How often the same questions were drawn; 1 has no spread, and NaN as the error. No question: NaN.
    """
    if not credit.size:
        return math.nan, math.nan
    means = credit.reshape(repeats, -1).mean(axis=1)
    error = float(means.std(ddof=1)) / math.sqrt(repeats) if repeats > 1 else math.nan
    return float(means.mean()), error
