"""Metrics from scores that are written down by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recexp.problems.outfit_protocols import explained, metric_names, metrics
from recexp.problems.outfit_questions import Questions, Rows


def rows(count: int, outfits: int) -> Rows:
    member = np.ones((count, outfits, 2), dtype=bool)
    return Rows(np.zeros((count, 2), dtype=np.int64), member, member)


def asked(true: list[int], *, repeats: int = 2, paired: bool = True, known: list[bool] | None = None) -> Questions:
    count, real = len(true), len(true) // repeats
    other = count if paired else 1
    whole = (np.array([True] + [paired] * (real - 1)), np.ones(other, dtype=bool))
    mask = np.array([True] * count if known is None else known)
    return Questions(
        "mine", rows(count, 4), np.array(true), mask, rows(real, 1), rows(other, 1), whole, repeats, paired
    )


BLANKS = np.array([[9, 1, 2, 3], [4, 5, 5, 1], [0, 1, 2, 9], [7, 1, 1, 1]], np.float32)


def test_the_true_answer_is_where_it_was_put() -> None:
    real, other = np.array([[2], [1]], np.float32), np.array([[1], [1], [3], [0]], np.float32)
    found = metrics([asked([0, 2, 3, 1])], [BLANKS, real, other], "fair")
    # Repeat by repeat: 1 and a tie of two, then 1 and 0.
    assert found["fitb_mine"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert found["fitb_mine_se"] == pytest.approx(np.std([0.75, 0.5], ddof=1) / np.sqrt(2))
    # 2 > 1, 1 = 1, then 2 < 3, 1 > 0.
    assert found["pairwise_mine"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    # Of the eight pairs: 2 above 1, 1 and 0; 1 above 0, equal to 1 and 1.
    assert found["auc_mine"] == pytest.approx((3 + 1 + 2 * 0.5) / 8)


@pytest.mark.parametrize(("ties", "expected"), [("first", 0.75), ("strict", 0.5)])
def test_other_ways_with_ties(ties: str, expected: float) -> None:
    zeros = np.zeros((2, 1), np.float32), np.zeros((4, 1), np.float32)
    assert metrics([asked([0, 2, 3, 1])], [BLANKS, *zeros], ties)["fitb_mine"] == expected


def test_what_cannot_be_answered_is_a_quarter() -> None:
    one = asked([0, 2, 3, 1], repeats=1, paired=False, known=[True, False, False, True])
    scores = [BLANKS, np.array([[2], [0], [0], [0]], np.float32), np.array([[1]], np.float32)]
    found = metrics([one], scores, "fair")
    assert found["fitb_mine"] == pytest.approx((1 + 0.25 + 0.25 + 0) / 4)
    assert found["fitb_mine_answerable"] == 0.5
    assert found["auc_mine"] == 0.25
    assert found["auc_mine_complete"] == 1
    assert list(found) == metric_names([one])
    assert set(found) <= set(explained(one, "fair"))
