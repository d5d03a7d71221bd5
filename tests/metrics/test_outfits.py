"""Fill in the blank, pairs, and the spread of repeated questions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recexp.metrics.outfits import blank_credit, pair_credit, repeated
from tests.support.outfit_cases import golden

CASE = golden("ngnn")["fitb_scoring"]


@pytest.mark.parametrize(("ties", "name"), [("first", "first_argmax"), ("strict", "strict"), ("fair", "fair")])
def test_the_golden_blanks(ties: str, name: str) -> None:
    scores = np.array(CASE["input"]["scores"], dtype=np.float32)
    assert blank_credit(scores, ties).mean() == pytest.approx(CASE["expected"][f"accuracy_{name}"], rel=1e-6)


def test_equal_answers_share_a_draw() -> None:
    assert blank_credit(np.zeros((3, 4), np.float32)).tolist() == [0.25, 0.25, 0.25]


def test_sums_in_another_order_are_ties() -> None:
    scores = np.array([[100.0, 100.00001, 1, 1], [1, 1.0001, 0, 0], [0, 1e-8, -1, -1]], np.float32)
    assert blank_credit(scores).tolist() == [0.5, 0, 0.5]


def test_a_diverged_model_does_not_look_like_a_guessing_one() -> None:
    scores = np.array([[np.nan] * 4, [1, np.nan, 0, 0], [np.inf, 0, 0, 0]], np.float32)
    assert blank_credit(scores).tolist() == [0, 0, 1]


def test_an_unknown_way_with_ties_is_refused() -> None:
    with pytest.raises(ValueError, match="ties='half'"):
        blank_credit(np.zeros((1, 4), np.float32), "half")


def test_pairs_count_ties_half() -> None:
    real = np.array([1, 1, 0, np.nan, 0, 100, 100, np.inf, np.inf, -np.inf], np.float32)
    other = np.array([0, 1, 1, 0, np.nan, 100.00001, 100.1, 1, np.inf, 0], np.float32)
    assert pair_credit(real, other).tolist() == [1, 0.5, 0, 0, 0, 0.5, 0, 1, 0.5, 0]


def test_the_spread_is_that_of_the_repeats() -> None:
    credit = np.array([1, 1, 0, 1, 0, 0], dtype=np.float64)
    mean, error = repeated(credit, 3)
    means = [1, 0.5, 0]
    assert mean == pytest.approx(0.5)
    assert error == pytest.approx(np.std(means, ddof=1) / math.sqrt(3))
    assert math.isnan(repeated(credit, 1)[1])
