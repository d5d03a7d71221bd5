"""Scores of a user's outfits and what completes them, against a sum over the items."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from recexp.errors import DataError
from recexp.problems.outfit import OutfitModule, QuestionStep
from recexp.problems.outfit_answers import OutfitAnswers
from recexp.problems.outfit_arrays import Pool
from recexp.problems.outfit_items import PlacedItems
from recexp.problems.outfit_requests import GivenItem, Request, Requests
from tests.problems.test_outfit_build import posed
from tests.support.outfit_cases import outfit, random_outfits

DATA = random_outfits(train=40, test=15, categories=6)
LARGER = next(number for number in range(40) if len(outfit(DATA, number)) > 2)


def answered(*sent: Any, top: int = 3) -> list[dict[str, Any]]:
    requests = Requests(DATA, missing="error").read(sent)
    return scored(OutfitAnswers(DATA, PlacedItems(DATA), requests, top=top))


def scored(asked: OutfitAnswers) -> list[dict[str, Any]]:
    module = posed(DATA, protocols=["same_category"]).module
    assert isinstance(module, OutfitModule)
    module.network.modality_scores = lambda table, outfits: {"image": 2 * module.network.scores(table, outfits)}  # type: ignore[operator, assignment]
    with torch.no_grad():
        return asked.answers([module.predict_step(step, number) for number, step in enumerate(asked.steps())])


def first(item: int) -> float:
    assert DATA.image is not None
    return float(DATA.image[item, 0])


def of_dataset(number: int) -> list[dict[str, Any]]:
    return [{"item": f"i{item}"} for item in outfit(DATA, number)]


def own(category: int, value: float) -> dict[str, Any]:
    return {"category": 100 + category, "image": [value, 9, 9, 9, 9], "words": [1]}


def test_scores_of_items_of_both_kinds_in_any_order() -> None:
    sent = [
        {"id": "a", "items": [own(5, 0.25), own(0, -1.5), own(2, 3.0)]},
        {"id": "b", "items": of_dataset(LARGER)},
        {"id": "c", "items": [own(4, 2.0), own(1, 0.5)]},
    ]
    found = answered(*sent)
    expected = [1.75, sum(first(item) for item in outfit(DATA, LARGER)), 2.5]
    assert [one["id"] for one in found] == ["a", "b", "c"]
    assert [one["score"] for one in found] == pytest.approx(expected, abs=1e-5)
    assert [one["scores"]["image"] for one in found] == pytest.approx([2 * score for score in expected], abs=1e-5)
    assert "complete" not in found[0]
    real = [sum(first(item) for item in outfit(DATA, 40 + number)) for number in range(15)]
    assert [one["above_real_outfits"] for one in found] == [
        pytest.approx(np.mean([other < one["score"] for other in real])) for one in found
    ]


def test_what_completes_an_outfit() -> None:
    (one,) = answered({"items": [own(0, 1.0), own(1, 1.0)], "complete": [103, 104]}, top=5)
    pool = Pool.of(DATA, np.arange(40)).items
    wanted = [int(item) for item in pool if DATA.category_of(np.array([item]))[0] in (3, 4)]
    best = sorted(wanted, key=first, reverse=True)[:5]
    assert [found["item"] for found in one["complete"]] == [f"i{item}" for item in best]
    assert [found["score"] for found in one["complete"]] == pytest.approx([2 + first(i) for i in best], abs=1e-5)
    assert {found["category"] for found in one["complete"]} <= {"category 3", "category 4"}


def test_only_training_items_complete_an_outfit() -> None:
    (one,) = answered({"items": [own(0, 1.0), own(1, 1.0)], "complete": True}, top=1000)
    trained = {f"i{item}" for number in range(40) for item in outfit(DATA, number)}
    categories = DATA.category_of(np.arange(DATA.num_items))
    assert {found["item"] for found in one["complete"]} == {i for i in trained if categories[int(i[1:])] > 1}


def test_rows_of_what_completes_outfits_exist_a_batch_at_a_time() -> None:
    sent = [{"items": [own(0, 1.0), own(1, 1.0)], "complete": True}] * 3000
    asked = OutfitAnswers(DATA, PlacedItems(DATA), Requests(DATA, missing="error").read(sent), top=1)
    tracemalloc.start()
    rows = sum(len(step.outfits) for step in asked.steps() if isinstance(step, QuestionStep))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows > 3000 * 30
    assert peak < 24 * rows


def test_a_score_that_is_no_number_is_no_answer() -> None:
    image = [float("nan"), 9.0, 9.0, 9.0, 9.0]
    requests = [Request("a", (GivenItem(0, None, image, [1]), GivenItem(1, None, image, [1])))]
    asked = OutfitAnswers(DATA, PlacedItems(DATA), requests, top=1)
    with pytest.raises(DataError, match="no finite numbers"):
        scored(asked)


def test_a_request_without_an_id_has_its_number() -> None:
    found = answered({"items": [own(0, 1.0), own(1, 1.0)]}, {"id": None, "items": [own(0, 1.0), own(1, 1.0)]})
    assert [one["id"] for one in found] == ["1", "2"]
