"""Generated outfits: what is planted is there and shown by features alone, and they are labelled as generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recexp.datasets.outfit_generator import ANSWERS, Recipe, generate, style_of
from recexp.datasets.outfits import UNKNOWN, UNUSED, Outfits
from recexp.datasets.prepare import prepare
from recexp.errors import ConfigError

NODE = {
    "_target_": "recexp.datasets.polyvore_synthetic.read", "name": "polyvore_synthetic", "outfits": 2000,
    "categories": 20, "items_per_category": 96, "new_items": True, "image_width": 256, "num_words": 400, "seed": 3,
}  # fmt: skip


def recipe(**options: Any) -> Recipe:
    return Recipe.of({**NODE, **options})


@pytest.fixture(scope="module")
def outfits() -> Outfits:
    return generate(recipe())


def of_part(data: Outfits, part: str) -> list[npt.NDArray[np.int32]]:
    return [data.members[data.offsets[o] : data.offsets[o + 1]] for o in data.part(part)]


def features(data: Outfits, modality: str) -> npt.NDArray[np.float64]:
    """What is known of each item, dense."""
    if modality == "image":
        assert data.image is not None
        return data.image.astype(np.float64)
    assert data.words is not None
    assert data.word_offsets is not None
    dense = np.zeros((data.num_items, data.num_words))
    dense[np.repeat(np.arange(data.num_items), np.diff(data.word_offsets)), data.words] = 1
    return dense


def read_styles(data: Outfits, modality: str, styles: int) -> npt.NDArray[np.int64]:
    """Style of each item by the nearest of its category's prototypes, which are means over items seen in training."""
    known, true = features(data, modality), style_of(recipe())
    seen = np.zeros(data.num_items, dtype=bool)
    seen[np.concatenate(of_part(data, "train"))] = True
    found = np.empty(data.num_items, dtype=np.int64)
    for first, last in zip(data.category_offsets[:-1], data.category_offsets[1:], strict=True):
        own = known[first:last]
        prototypes = [own[(true[first:last] == s) & seen[first:last]].mean(0) for s in range(styles)]
        found[first:last] = np.argmin([np.square(own - one).sum(1) for one in prototypes], axis=0)
    return found


def fill_in_the_blank(data: Outfits, style: npt.NDArray[np.int64]) -> float:
    """Share of test blanks where the answer that agrees with most of the rest is the true one; ties share."""
    draw, right = np.random.default_rng(0), []
    train = np.unique(np.concatenate(of_part(data, "train")))
    category = data.category_of(train)
    for items in of_part(data, "test"):
        true = items[draw.integers(len(items))]
        wrong = draw.choice(train[category == data.category_of(true)], ANSWERS - 1)
        rest = style[items[items != true]]
        agreement = np.array([(rest == style[one]).sum() for one in (true, *wrong)])
        best = agreement == agreement.max()
        right.append(best[0] / best.sum())
    return float(np.mean(right))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_features_say_what_goes_together(outfits: Outfits, modality: str) -> None:
    """Among items of one category, where categories say nothing; of items that no training outfit has."""
    assert fill_in_the_blank(outfits, style_of(recipe())) > 0.6
    read = read_styles(outfits, modality, Recipe.styles)
    assert fill_in_the_blank(outfits, read) > 0.45
    shuffled = np.random.default_rng(1).permutation(read)
    assert fill_in_the_blank(outfits, shuffled) == pytest.approx(0.25, abs=0.08)


def test_without_structure_there_is_nothing_to_find() -> None:
    data = generate(recipe(structure=0.0, image_width=4))
    assert fill_in_the_blank(data, style_of(recipe())) == pytest.approx(0.25, abs=0.08)


def test_categories_alone_answer_random_distractors_and_know_nothing_of_styles(outfits: Outfits) -> None:
    """Frequencies differ and some go together; an item's style does not depend on its category."""
    present = np.zeros((len(outfits), len(outfits.categories)))
    for o in range(len(outfits)):
        present[o, outfits.category_of(outfits.members[outfits.offsets[o] : outfits.offsets[o + 1]])] = 1
    train = present[outfits.bounds[0] : outfits.bounds[1]]
    count = train.sum(0)
    assert count.max() > 5 * count.min()
    pairs = np.log((train.T @ train + 1) / (np.outer(count, count) / len(train) + 1))
    np.fill_diagonal(pairs, 0)
    draw, right = np.random.default_rng(0), []
    for own in present[outfits.bounds[2] :]:
        true = draw.choice(np.flatnonzero(own))
        rest = own.copy()
        rest[true] = 0
        scores = np.array([np.log(count[c]) + rest @ pairs[c] for c in (true, *draw.integers(len(own), size=3))])
        best = scores == scores.max()
        right.append(best[0] / best.sum())
    assert np.mean(right) > 0.45
    members = np.concatenate(of_part(outfits, "train"))
    table = np.zeros((len(outfits.categories), Recipe.styles))
    np.add.at(table, (outfits.category_of(members), style_of(recipe())[members]), 1)
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    assert ((table - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom)


def test_shapes(outfits: Outfits) -> None:
    assert outfits.bounds == (0, 2000, 2200, 2400)
    assert outfits.modalities == {"image": 256, "text": 400}
    lengths = np.diff(outfits.offsets)
    assert set(lengths) == set(range(3, 9))
    for o in range(0, len(outfits), 7):
        category = outfits.category_of(outfits.members[outfits.offsets[o] : outfits.offsets[o + 1]])
        assert len(set(category)) == len(category)
    assert outfits.image is not None
    assert outfits.image.dtype == np.float16
    assert outfits.image.min() == 0
    assert 0.3 < (outfits.image > 0).mean() < 0.7
    assert outfits.num_items == (96 + 24 + 24) * 20
    seen = [set(np.concatenate(of_part(outfits, part)).tolist()) for part in ("train", "val", "test")]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]
    assert outfits.words is not None
    assert outfits.word_offsets is not None
    for i in range(0, outfits.num_items, 11):
        assert (np.diff(outfits.words[outfits.word_offsets[i] : outfits.word_offsets[i + 1]]) > 0).all()


def test_all_outfits_draw_from_the_same_items_unless_told_otherwise() -> None:
    data = generate(recipe(new_items=False, image_width=4))
    assert data.num_items == 96 * 20
    train, test = (set(np.concatenate(of_part(data, part)).tolist()) for part in ("train", "test"))
    assert len(test & train) > 0.7 * len(test)
    assert fill_in_the_blank(data, np.arange(data.num_items) % 96 % Recipe.styles) > 0.6


def test_questions_are_about_test_outfits(outfits: Outfits) -> None:
    asked = outfits.published
    assert asked is not None
    tested = of_part(outfits, "test")
    assert len(asked.position) == len(tested)
    for q, items in enumerate(tested):
        rest = asked.context[q][asked.context[q] != UNUSED]
        known = np.delete(items, asked.position[q])
        assert len(rest) == len(known)
        assert set(rest[rest != UNKNOWN]) == set(known[rest != UNKNOWN])
        assert asked.answers[q, 0] == items[asked.position[q]]
        wrong = asked.answers[q, 1:][asked.answers[q, 1:] != UNKNOWN]
        assert items[asked.position[q]] not in wrong
        is_same = outfits.category_of(wrong) == outfits.category_of(asked.answers[q, :1])
        assert is_same.all() if q % 2 == 0 else not is_same.any()
    assert 0 < (asked.context == UNKNOWN).sum() < 0.05 * asked.context.size
    assert 0 < (asked.answers == UNKNOWN).sum() < 0.05 * asked.answers.size
    assert asked.label.tolist() == [1] * len(tested) + [0] * len(tested)
    for row, items in zip(asked.outfit[: len(tested)], tested, strict=True):
        assert row[row != UNUSED].tolist() == items.tolist()
    false = asked.outfit[len(tested) :]
    assert ((false == UNUSED) == (asked.outfit[: len(tested)] == UNUSED)).all()


def test_one_size_does_not_shift_what_others_give(outfits: Outfits) -> None:
    more = generate(recipe(outfits=2500, num_words=400))
    assert np.array_equal(more.members[: more.offsets[2000]], outfits.members[: outfits.offsets[2000]])
    assert np.array_equal(more.image, outfits.image)  # type: ignore[arg-type]
    assert np.array_equal(more.words, outfits.words)  # type: ignore[arg-type]
    narrow = generate(recipe(image_width=3))
    assert np.array_equal(narrow.members, outfits.members)
    assert np.array_equal(narrow.words, outfits.words)  # type: ignore[arg-type]


def test_labelled_as_generated_and_the_same_again(tmp_path: Path) -> None:
    small = {**NODE, "outfits": 60, "image_width": 8}
    data = prepare(small, data=None, cache=tmp_path / "a")
    assert isinstance(data, Outfits)
    assert data.meta.synthetic is True
    assert data.meta.origin == "generated (72 outfits, seed 3)"
    assert data.meta.verified is None
    assert prepare(small, data=None, cache=tmp_path / "b").meta == data.meta
    for change in ({"seed": 4}, {"styles": 5}, {"structure": 0.5}, {"num_words": 401}):
        assert prepare({**small, **change}, data=None, cache=tmp_path / "a").meta.fingerprint != data.meta.fingerprint


def test_contradictions_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        recipe(categories=7, items_per_category=8, styles=3, num_words=20)
    assert [text.split(":")[0] for text in told.value.problems] == [
        "dataset.categories=7", "dataset.items_per_category=8", "dataset.num_words=20",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"Use dataset=polyvore\."):
        prepare({**NODE, "path": "/x"}, data=None, cache=tmp_path)
