"""Recall and MRR of the next event against the hand-computed cases and against loops."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recexp.metrics.next_event import NEVER, TIE_RULES, NextEventMetrics, NextEventSpec, ranks

GOLDEN = Path(__file__).parents[1] / "golden" / "gru4rec.json"
CASES = {case["name"]: case for case in json.loads(GOLDEN.read_text())["cases"]}


def computed(greater: list[int], equal: list[int], spec: NextEventSpec) -> dict[str, float]:
    metric = NextEventMetrics(spec)
    metric.update(torch.arange(len(greater)), torch.tensor(greater), torch.tensor(equal))
    return metric.compute()


@pytest.mark.parametrize("ties", TIE_RULES)
def test_golden_ranks_with_ties(ties: str) -> None:
    case = CASES["rank_with_ties"]
    scores, target = np.array(case["input"]["scores"]), case["input"]["target_index"]
    greater, equal = (scores > scores[target]).sum(), (scores == scores[target]).sum() - 1
    assert ranks(np.array([greater]), np.array([equal]), ties)[0] == case["expected"][ties]


def test_golden_recall_and_mrr_count_the_rank_of_the_cut_off_itself() -> None:
    case = CASES["recall_mrr_at_20"]
    places = [rank - 1 for rank in case["input"]["ranks"]]
    values = computed(places, [0] * len(places), NextEventSpec((case["input"]["cutoff"],), "standard"))
    assert values["recall_at_20"] == pytest.approx(case["expected"]["recall"])
    assert values["mrr_at_20"] == pytest.approx(case["expected"]["mrr"])


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=1, max_size=12),
    st.integers(1, 9),
    st.sampled_from(TIE_RULES),
)
def test_against_a_loop(events: list[tuple[int, int]], k: int, ties: str) -> None:
    hits, gain = 0, Fraction(0)
    for greater, equal in events:
        behind = {"standard": Fraction(0), "conservative": Fraction(equal), "median": Fraction(equal, 2)}[ties]
        rank = 1 + greater + behind
        if rank <= k:
            hits, gain = hits + 1, gain + 1 / rank
    values = computed(*(list(part) for part in zip(*events, strict=True)), NextEventSpec((k,), ties))
    assert values[f"recall_at_{k}"] == pytest.approx(hits / len(events))
    assert values[f"mrr_at_{k}"] == pytest.approx(float(gain / len(events)))


def test_a_constant_model_is_worthless_or_perfect_as_the_rule_says() -> None:
    greater, equal = [0] * 5, [99] * 5
    assert computed(greater, equal, NextEventSpec((20,), "conservative")) == {"recall_at_20": 0.0, "mrr_at_20": 0.0}
    assert computed(greater, equal, NextEventSpec((20,), "standard")) == {"recall_at_20": 1.0, "mrr_at_20": 1.0}
    assert computed(greater, equal, NextEventSpec((20,), "median")) == {"recall_at_20": 0.0, "mrr_at_20": 0.0}


@pytest.mark.parametrize("ties", TIE_RULES)
def test_what_can_be_no_hit_is_none_at_any_cut_off(ties: str) -> None:
    assert set(computed([NEVER], [0], NextEventSpec((1, NEVER - 1), ties)).values()) == {0.0}


def test_neither_order_nor_batches_change_a_digit() -> None:
    generator = torch.Generator().manual_seed(0)
    event = torch.randperm(5000, generator=generator)
    greater, equal = torch.randint(0, 30, (2, 5000), generator=generator)
    whole, parts = NextEventMetrics(NextEventSpec((20,))), NextEventMetrics(NextEventSpec((20,)))
    whole.update(event, greater, equal)
    for rows in torch.randperm(5000, generator=generator).split(77):
        parts.update(event[rows], greater[rows], equal[rows])
    assert whole.compute() == parts.compute()
    assert whole.per_event()["event"].tolist() == list(range(5000))
    assert all(np.array_equal(one, parts.per_event()[name]) for name, one in whole.per_event().items())


def test_names_are_those_that_are_computed() -> None:
    spec = NextEventSpec((5, 20), "median")
    assert list(computed([1], [0], spec)) == spec.metric_names()
    assert spec.metric_names() == ["recall_at_5", "mrr_at_5", "recall_at_20", "mrr_at_20"]
    assert computed([], [], spec) == {}


@pytest.mark.parametrize(
    ("spec", "word"),
    [({"ties": "fair"}, "'fair'.*standard, conservative, median"), ({"k": (0,)}, "k="), ({"k": ()}, "k=")],
)
def test_an_illegal_spec_is_refused(spec: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        NextEventSpec(**spec)
