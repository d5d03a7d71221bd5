"""From scores of frozen questions to metrics, the same for a model and for the category-only baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recexp.metrics.auc import roc_auc
from recexp.metrics.outfits import blank_credit, pair_credit, repeated
from recexp.problems.outfit_arrays import Ids, Mask
from recexp.problems.outfit_questions import ANSWERS, Questions, Rows

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Answered:
    """Scores of one protocol's rows: ``blanks`` [Q, A], ``real`` [M], ``other`` [M'], all float32."""

    blanks: Scores
    real: Scores
    other: Scores


def rows_of(questions: Sequence[Questions]) -> list[Rows]:
    """What has to be scored, in the order in which :func:`metrics` takes the scores."""
    return [rows for one in questions for rows in (one.blanks, one.real, one.other)]


def metrics(questions: Sequence[Questions], scores: Sequence[Scores], ties: str) -> dict[str, float]:
    """All metrics by name.

    Args:
        questions: Of all protocols.
        scores: [Q, K] of each of :func:`rows_of`.
        ties: One of ``metrics.outfits.TIES``.
    """
    found: dict[str, float] = {}
    for at, one in enumerate(questions):
        blanks, real, other = scores[3 * at : 3 * at + 3]
        found.update(_metrics(one, Answered(blanks, real[:, 0], other[:, 0]), ties))
    return found


def metric_names(questions: Sequence[Questions]) -> list[str]:
    """Names that :func:`metrics` gives."""
    empty = [np.zeros(rows.member.shape[:2], np.float32) for rows in rows_of(questions)]
    return list(metrics(questions, empty, "fair"))


def _metrics(asked: Questions, answered: Answered, ties: str) -> dict[str, float]:
    name = asked.name
    # Whoever cannot see all answers guesses.
    credit = np.where(asked.answerable, blank_credit(_true_first(answered.blanks, asked.true), ties), 1 / ANSWERS)
    accuracy, error = repeated(credit, asked.repeats)
    found = {f"fitb_{name}": accuracy}
    if asked.repeats > 1:
        found[f"fitb_{name}_se"] = error
    if asked.paired:
        real = np.tile(answered.real, asked.repeats)
        pairwise, error = repeated(pair_credit(real, answered.other), asked.repeats)
        found[f"pairwise_{name}"] = pairwise
        if asked.repeats > 1:
            found[f"pairwise_{name}_se"] = error
    found[f"auc_{name}"] = _auc(answered.real, answered.other)
    if not asked.answerable.all():
        found[f"fitb_{name}_answerable"] = _mean(credit, asked.answerable)
    whole_real, whole_other = asked.complete
    if not (whole_real.all() and whole_other.all()):
        found[f"auc_{name}_complete"] = _auc(answered.real[whole_real], answered.other[whole_other])
    return found


def _true_first(scores: Scores, true: Ids) -> Scores:
    """The same scores [Q, A] with that of the true answer in the first column, in the place of what was there."""
    order = np.repeat(np.arange(scores.shape[1])[None], len(scores), axis=0)
    order[np.arange(len(scores)), true] = 0
    order[:, 0] = true
    return np.take_along_axis(scores, order, axis=1)


def _mean(credit: NDArray[np.float64], chosen: Mask) -> float:
    return float(credit[chosen].mean()) if chosen.any() else math.nan


def _auc(real: Scores, other: Scores) -> float:
    label = np.concatenate((np.ones(len(real), np.uint8), np.zeros(len(other), np.uint8)))
    return roc_auc(np.concatenate((real, other)), label)


def explained(asked: Questions, ties: str) -> dict[str, str]:
    """Each metric of a protocol in words."""
    name, drawn = asked.name, f"{asked.repeats} x {len(asked.real):,} outfits"
    how = {
        "random_category": f"wrong answers: training item of a random category; {drawn}",
        "same_category": f"wrong answers: tested item of the same category; {drawn}",
    }.get(name, _coverage(asked))
    whole = sum(int(mask.sum()) for mask in asked.complete)
    return {
        f"fitb_{name}": f"fill in the blank, {ANSWERS} answers, {ties} ties; {how}",
        f"pairwise_{name}": f"real outfit above an outfit of its length, ties half; {how}",
        f"auc_{name}": f"ROC-AUC of all outfits; {how}",
        f"fitb_{name}_se": "standard error over drawing the questions again",
        f"pairwise_{name}_se": "standard error over drawing the outfits again",
        f"fitb_{name}_answerable": f"the {int(asked.answerable.sum()):,} questions with all answers in this data",
        f"auc_{name}_complete": f"the {whole:,} outfits with all items in this data",
    }


def _coverage(asked: Questions) -> str:
    known, outfits = int(asked.answerable.sum()), len(asked.real) + len(asked.other)
    whole = sum(int(mask.sum()) for mask in asked.complete)
    return (
        f"published: {len(asked.blanks):,} questions, {known:,} with all answers in this data, the others by chance; "
        f"{outfits:,} outfits, {whole:,} with all items"
    )
