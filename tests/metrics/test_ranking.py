"""Ranking metrics against brute force over all orders of the ties, and against the hand-computed cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from recexp.metrics.ranking import RankingMetrics, RankingSpec, auc, hit_rate, ndcg, reciprocal_rank

scores = st.lists(st.integers(0, 3), min_size=2, max_size=6)


def orders(values: list[int]) -> list[int]:
    """Rank, from 1, of item 0 in every order that sorts the values from high to low."""
    ranks = []
    for order in itertools.permutations(range(len(values))):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            ranks.append(order.index(0) + 1)
    return ranks


def counts(values: list[int]) -> tuple[np.ndarray, np.ndarray]:
    greater = sum(v > values[0] for v in values)
    equal = sum(v == values[0] for v in values) - 1
    return np.array([greater]), np.array([equal])


@given(scores, st.integers(1, 7))
def test_fair_ties_are_the_mean_over_all_orders(values: list[int], k: int) -> None:
    ranks = np.array(orders(values))
    greater, equal = counts(values)
    assert hit_rate(greater, equal, k)[0] == pytest.approx(np.mean(ranks <= k))
    assert ndcg(greater, equal, k)[0] == pytest.approx(np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)))
    assert reciprocal_rank(greater, equal)[0] == pytest.approx(np.mean(1 / ranks))
    assert reciprocal_rank(greater, equal, k)[0] == pytest.approx(np.mean(np.where(ranks <= k, 1 / ranks, 0)))


@given(scores)
def test_auc_equals_scikit_learn(values: list[int]) -> None:
    greater, equal = counts(values)
    labels = [1] + [0] * (len(values) - 1)
    assert auc(greater, equal, np.array([len(values)]))[0] == pytest.approx(roc_auc_score(labels, values))


def test_golden_sampled_metrics(golden: dict[str, dict]) -> None:
    case = golden["sampled_metrics"]
    positive, negatives = case["input"]["positive_score"], np.array(case["input"]["negative_scores"])
    greater, equal = torch.tensor([(negatives > positive).sum()]), torch.tensor([(negatives == positive).sum()])
    assert len(negatives) == 101
    values = {}
    for base in (2.0, math.e):
        metric = RankingMetrics(RankingSpec((10,), "pessimistic", log_base=base))
        metric.update(torch.tensor([1]), greater, equal, torch.tensor([102]))
        values[base] = metric.compute()
    expected = case["expected"]
    assert int(greater + equal) == expected["rank0"]
    assert values[2.0]["hr_at_10"] == expected["hit@10"]
    assert values[2.0]["mrr"] == pytest.approx(expected["mrr_uncut"])
    assert values[2.0]["ndcg_at_10"] == pytest.approx(expected["ndcg@10_log2"])
    assert values[math.e]["ndcg_at_10"] == pytest.approx(expected["ndcg@10_natural_log_bug"])


def test_neither_order_nor_batches_nor_processes_change_a_digit() -> None:
    generator = torch.Generator().manual_seed(0)
    users = torch.randperm(1000, generator=generator)
    greater, equal = torch.randint(0, 99, (2, 1000), generator=generator)
    candidates = torch.full((1000,), 200)
    whole, parts = RankingMetrics(RankingSpec()), RankingMetrics(RankingSpec())
    whole.update(users, greater, equal, candidates)
    for rows in torch.randperm(1000, generator=generator).split(77):
        parts.update(users[rows], greater[rows], equal[rows], candidates[rows])
    assert whole.compute() == parts.compute()


def test_names_are_those_that_are_computed() -> None:
    spec = RankingSpec((5, 10), mrr_at=10, auc=True)
    metric = RankingMetrics(spec)
    metric.update(*(torch.tensor([n]) for n in (1, 2, 0, 9)))
    assert list(metric.compute()) == spec.metric_names()


@pytest.mark.parametrize(("spec", "word"), [({"ties": "fare"}, "fare"), ({"k": (0,)}, "k=")])
def test_an_illegal_spec_is_refused(spec: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        RankingSpec(**spec)
