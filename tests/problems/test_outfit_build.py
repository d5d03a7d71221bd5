"""The whole problem with a network of arithmetic: parts, questions, processes, and what its metrics mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recexp.config.settings import TrainerSettings
from recexp.datasets.outfits import Outfits, PublishedQuestions
from recexp.errors import ConfigError
from recexp.problems.module import StepSettings
from recexp.problems.outfit import ItemBatch, ItemStep, OutfitModule, OutfitNodes
from recexp.problems.outfit_arrays import NOTHING, Pool
from recexp.problems.outfit_build import OutfitData, build, split
from recexp.problems.outfit_evaluation import OutfitEvaluation, QuestionLoader
from recexp.problems.outfit_items import PlacedItems
from recexp.problems.outfit_protocols import metrics, rows_of
from tests.support.outfit_cases import random_outfits

OPTIONS: dict[str, Any] = {
    "protocols": ["random_category", "same_category", "published"], "repeats": 3, "ties": "fair", "floor": True,
    "eval_seed": 2018, "validate": False, "validation_share": 0.25, "pairs_per_outfit": 8, "shuffle": "pairs",
    "drop_last": False, "shuffle_features": False, "negatives": {"category": "random", "refresh": "epoch"},
}  # fmt: skip


class FirstNumber(torch.nn.Module):
    """An outfit's score is the sum of the first numbers of its pictures."""

    reduction = "mean"

    def __init__(self, sizes: Any) -> None:
        super().__init__()
        self.sizes = sizes

    def parameter_groups(self) -> list[dict[str, Any]]:
        return []

    def project(self, items: ItemBatch) -> dict[str, Tensor]:
        assert items.image is not None
        return {"image": items.image[:, :1]}

    def scores(self, projected: Mapping[str, Tensor], outfits: OutfitNodes) -> Tensor:
        values = projected["image"][outfits.node, 0]
        return (values[:, None] * outfits.member).sum(2)


def posed(data: Outfits, limit: int | None = None, **options: Any) -> Any:
    config = {
        "problem": {**OPTIONS, **options},
        "dataset": {"name": "mine", "batch_size": 16, "eval_batch_size": 7},
        "seed": 1,
    }
    step = StepSettings(make_optimizer=lambda _: (None, None))  # type: ignore[arg-type, return-value]
    trainer = TrainerSettings(limit_eval_users=limit)
    return build(config, data, trainer=trainer, step=step, make_network=FirstNumber)


def answers(module: OutfitModule, data: OutfitData, split: str = "test") -> dict[str, float]:
    evaluation = module.evaluations[split]
    assert isinstance(evaluation, OutfitEvaluation)
    for batch in data.test_dataloader() if split == "test" else data.val_dataloader():
        module.evaluate(batch, evaluation)
    found = evaluation.compute()
    evaluation.reset()
    return found


def with_questions() -> Outfits:
    plain = random_outfits(train=40, test=15)
    a, b, c, d, e = (int(plain.category_offsets[n]) for n in range(5))
    questions = PublishedQuestions(
        context=np.array([[a, b], [b, c]], np.int32),
        position=np.array([0, 2], np.int32),
        answers=np.array([[c, d, e, a + 1], [a, d, e, -1]], np.int32),
        outfit=np.array([[a, b], [c, -1], [d, e], [a, e]], np.int32),
        label=np.array([1, 1, 0, 0], np.uint8),
    )
    return random_outfits(train=40, test=15, published=questions)


def brute_force(data: Outfits, asked: Any) -> list[Any]:
    assert data.image is not None
    first = data.image[:, 0].astype(np.float32)
    scores = []
    for rows in rows_of(asked):
        own = np.zeros(rows.member.shape[:2], np.float32)
        for row, outfit in np.ndindex(own.shape):
            members = rows.items[row][rows.member[row, outfit]]
            assert (members != NOTHING).all()
            own[row, outfit] = sum(first[item] for item in members)
        scores.append(own)
    return scores


def test_every_question_is_scored_in_its_own_place() -> None:
    data = with_questions()
    made = posed(data)
    asked = made.module.evaluations["test"].questions
    expected = metrics(asked, brute_force(data, asked), "fair")
    found = answers(made.module, made.data)
    assert list(found) == list(made.explanations)
    assert found == pytest.approx(expected, abs=1e-6)
    # A second pass begins anew.
    assert answers(made.module, made.data) == found


def test_published_questions_that_cannot_be_answered_are_left_to_chance() -> None:
    found = answers(*(lambda p: (p.module, p.data))(posed(with_questions())))
    credit = 2 * found["fitb_published"] - 0.25
    assert credit == pytest.approx(found["fitb_published_answerable"])
    assert "auc_published_complete" in found
    assert "pairwise_published" not in found
    assert "fitb_published_se" not in found


@pytest.mark.parametrize("world", [2, 3])
def test_processes_answer_each_their_share(world: int) -> None:
    data = with_questions()
    made = posed(data)
    asked = made.module.evaluations["test"].questions
    total = [torch.zeros(rows.member.shape[:2]) for rows in rows_of(asked)]
    for rank in range(world):
        evaluation = OutfitEvaluation(asked, "fair")
        for batch in QuestionLoader(PlacedItems(data), asked, 7, rank=rank, world=world):
            made.module.evaluate(batch, evaluation)
        total = [sum(pair) for pair in zip(total, evaluation._scores, strict=True)]
    for found, expected in zip(total, brute_force(data, asked), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_items_are_projected_once() -> None:
    made = posed(with_questions())
    steps = list(made.data.test_dataloader())
    projected = [step for step in steps if isinstance(step, ItemStep)]
    assert len(steps) == len(made.data.test_dataloader())
    assert sum(len(step.items) for step in projected) <= made.data._placed.data.num_items
    assert [step.first for step in projected] == [True] + [False] * (len(projected) - 1)


def test_categories_alone_are_at_chance_among_items_of_one_category() -> None:
    floor = posed(with_questions()).floor(torch.device("cpu"))
    assert floor["test/fitb_same_category"] == 0.25
    assert floor["test/pairwise_same_category"] == floor["test/auc_same_category"] == 0.5
    assert set(floor) == {f"test/{name}" for name in posed(with_questions()).explanations}


def test_the_validation_outfits_of_the_dataset_or_a_share() -> None:
    own = random_outfits(train=40, val=6, test=10)
    assert [len(part) for part in vars(split(own, OPTIONS, "mine")).values()] == [40, 0, 10]
    parts = split(own, {**OPTIONS, "validate": True}, "mine")
    assert parts.val.tolist() == list(range(40, 46))
    parts = split(random_outfits(), {**OPTIONS, "validate": True}, "mine")
    assert len(parts.val) == 10
    assert sorted([*parts.train, *parts.val]) == list(range(40))
    again = split(random_outfits(), {**OPTIONS, "validate": True}, "mine")
    assert parts.val.tolist() == again.val.tolist()
    assert parts.val.tolist() != list(range(30, 40))


def test_validation_has_questions_of_its_own() -> None:
    made = posed(with_questions(), validate=True)
    assert made.validates
    assert made.headline == "val/fitb_random_category"
    found = answers(made.module, made.data, "val")
    assert "fitb_published" not in found
    assert found["fitb_random_category"] != answers(made.module, made.data)["fitb_random_category"]
    without = posed(with_questions())
    assert not without.validates
    assert list(without.data.val_dataloader()) == []


def test_labelled_outfits_without_published_questions() -> None:
    nothing, outfits = np.zeros((0, 0), np.int32), np.array([[0, 1], [2, -1]], np.int32)
    labelled = PublishedQuestions(nothing, nothing.reshape(0), nothing, outfits, np.array([1, 0], np.uint8))
    made = posed(random_outfits(published=labelled), protocols=["published"])
    asked = made.module.evaluations["test"].questions
    scores = [np.full(rows.member.shape[:2], number, np.float32) for number, rows in enumerate(rows_of(asked))]
    found = metrics(asked, scores, "fair")
    assert np.isnan(found["fitb_published"])
    assert found["auc_published"] == 0.0
    assert answers(made.module, made.data).keys() == found.keys()


def test_a_limit_leaves_published_questions_alone() -> None:
    made = posed(with_questions(), limit=4)
    blanks = [len(one.blanks) for one in made.module.evaluations["test"].questions]
    assert blanks == [12, 12, 2]
    assert made.protocol != posed(with_questions()).protocol


def test_nothing_to_ask_or_to_train_on_is_said() -> None:
    with pytest.raises(ConfigError, match="no published questions"):
        posed(random_outfits(), protocols=["published"])
    with pytest.raises(ConfigError, match="no outfits for test"):
        posed(random_outfits(test=0))


def test_the_headline_is_the_first_protocol() -> None:
    assert posed(with_questions(), protocols=["same_category"]).headline == "val/fitb_same_category"


def test_wrong_answers_of_the_same_category_were_not_trained_on_either() -> None:
    data = random_outfits(train=60, test=40, categories=5, longest=5)
    made = posed(data)
    by_name = {one.name: one for one in made.module.evaluations["test"].questions}
    tested = {int(i) for n in range(60, 100) for i in data.members[data.offsets[n] : data.offsets[n + 1]]}
    trained = {int(i) for n in range(60) for i in data.members[data.offsets[n] : data.offsets[n + 1]]}
    assert set(by_name["same_category"].blanks.items[:, -4:].reshape(-1)) <= tested
    wrong = by_name["random_category"].blanks.items[:, -4:]
    assert set(wrong[np.arange(4) != by_name["random_category"].true[:, None]]) <= trained


def test_a_category_with_few_tested_items_takes_training_items() -> None:
    data = random_outfits(train=60, test=3, categories=5, longest=5)
    own, other = Pool.of(data, np.arange(60, 63)), Pool.of(data, np.arange(60))
    both = own.filled_up(other, 3)
    for c in range(5):
        chosen = own if own.sizes[c] >= 3 or own.sizes[c] >= other.sizes[c] else other
        expected = chosen.items[chosen.offsets[c] : chosen.offsets[c + 1]]
        assert both.items[both.offsets[c] : both.offsets[c + 1]].tolist() == expected.tolist()
    assert (own.sizes < 3).any()
    assert (own.sizes >= 3).any()


def test_a_category_that_training_has_not_keeps_its_few_tested_items() -> None:
    own, none = Pool(np.array([0, 4, 5]), np.array([0, 1, 3])), Pool(np.array([1]), np.array([0, 1, 1]))
    both = own.filled_up(none, 4)
    assert both.items.tolist() == [0, 4, 5]
    assert both.offsets.tolist() == [0, 1, 3]
