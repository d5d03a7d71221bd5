"""The category-only baseline against a loop over pairs, the golden counts, and the real outfits."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from recexp.datasets.events import DataMeta
from recexp.datasets.outfits import Category, Outfits
from recexp.problems.outfit_arrays import NOTHING, categories, padded
from recexp.problems.outfit_baseline import CategoryCounts
from tests.support.outfit_cases import category_of, golden, outfit, random_outfits


def test_the_golden_counts() -> None:
    case = golden("ngnn")["cooccurrence"]
    outfits = case["input"]["outfits_as_category_ids"]
    data = Outfits(
        category_offsets=np.arange(4),
        members=np.concatenate(outfits).astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum([len(own) for own in outfits]))),
        bounds=(0, 4, 4, 4),
        categories=tuple(Category(str(c), "") for c in range(3)),
        item_labels=np.arange(3),
        outfit_labels=np.arange(4),
        meta=DataMeta("golden", "", "", "", True, 4),
    )
    counts, expected = CategoryCounts.of(data, np.arange(4)), case["expected"]
    assert counts.count.tolist() == expected["count"]
    assert counts.together.tolist() == expected["co"]
    np.testing.assert_allclose(counts.conditional(), expected["weight_row_norm"], rtol=1e-6)
    assert int((counts.together > 0).sum()) == expected["n_directed_edges"]
    np.testing.assert_allclose(2 * counts.together, expected["reference_double_count"])


def test_scores_are_the_sums_that_they_say() -> None:
    data = random_outfits(train=50, test=20)
    counts = CategoryCounts.of(data, np.arange(50))
    train = [[category_of(data, item) for item in outfit(data, number)] for number in range(50)]
    total = sum(len(own) for own in train)
    rows = padded(data, np.arange(50, 70))
    found = counts.scores(categories(data, rows), (rows != NOTHING)[:, None])
    for number in range(20):
        own = [category_of(data, item) for item in outfit(data, 50 + number)]
        n = {c: sum(c in other for other in train) for c in own}
        expected = sum(math.log(max(n[c], 0.5) / total) for c in own)
        for i, j in combinations(own, 2):
            together = sum(i in other and j in other for other in train)
            expected += math.log((together + 1) / (n[i] * n[j] / 50 + 1))
        assert found[number, 0] == pytest.approx(expected, abs=1e-4)


def test_a_category_twice_is_a_pair_that_never_occurs() -> None:
    data = random_outfits(train=50)
    counts = CategoryCounts.of(data, np.arange(50))
    named = np.array([[[True, True, False], [True, False, True]]])
    twice, once = counts.scores(np.array([[2, 2, 3]]), named)[0]
    assert twice < once


def test_equal_categories_tie_in_any_order() -> None:
    data = random_outfits(train=50, categories=12)
    counts = CategoryCounts.of(data, np.arange(50))
    draw = np.random.default_rng(0)
    own = draw.permutation(12)[:7]
    rows = np.stack([draw.permutation(own) for _ in range(200)])
    scores = counts.scores(rows, np.ones((200, 1, 7), dtype=bool))
    assert len(np.unique(scores)) == 1


def test_weights_are_shares_of_the_outfits_of_the_first_category() -> None:
    data = random_outfits(train=50)
    found = CategoryCounts.of(data, np.arange(50)).conditional()
    train = [{category_of(data, item) for item in outfit(data, number)} for number in range(50)]
    for i in range(9):
        own = [other for other in train if i in other]
        for j in range(9):
            share = sum(j in other for other in own) / len(own) if i != j else 0
            assert found[i, j] == pytest.approx(share, rel=1e-6)
    assert (found != found.T).any()
