"""Frozen questions: what is asked under each protocol, and that it stays the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from recexp.datasets.outfits import UNKNOWN, UNUSED, Outfits, PublishedQuestions
from recexp.problems.outfit_arrays import NOTHING, Ids, Pool
from recexp.problems.outfit_questions import Questions, Rows, drawn, published
from tests.support.outfit_cases import category_of, outfit, random_outfits, written

DATA = random_outfits(train=60, test=40, categories=7)
TEST = np.arange(60, 100)
POOL = Pool.of(DATA, np.arange(60))


def ask(protocol: str = "random_category", *, repeats: int = 3, seed: int = 5, outfits: Ids = TEST) -> Questions:
    return drawn(DATA, outfits, POOL, protocol=protocol, repeats=repeats, seed=seed)


def items(rows: Rows, row: int, outfit: int) -> set[int]:
    return {int(item) for item in rows.items[row][rows.member[row, outfit]]}


def test_blanks_are_what_the_reference_would_write() -> None:
    asked = ask()
    blanks = asked.blanks
    collisions = 0
    for row in range(len(blanks)):
        own = outfit(DATA, int(TEST[row % 40]))
        answers = blanks.items[row, -4:]
        position = own.index(int(answers[asked.true[row]]))
        assert items(blanks, row, int(asked.true[row])) == set(own)
        for answer in range(4):
            assert items(blanks, row, answer) == written(DATA, own, position, int(answers[answer]))
            collisions += len(items(blanks, row, answer)) < len(own)
    assert collisions > 10


def test_other_outfits_have_the_length_and_the_later_item_of_a_category() -> None:
    asked = ask()
    for row in range(len(asked.other)):
        length = len(outfit(DATA, int(TEST[row % 40])))
        drawn_items = [int(item) for item in asked.other.items[row] if item != NOTHING]
        assert len(drawn_items) == length
        assert items(asked.other, row, 0) == set({category_of(DATA, item): item for item in drawn_items}.values())


def test_wrong_answers_are_training_items() -> None:
    asked = ask()
    answers = asked.blanks.items[:, -4:]
    wrong = answers[np.arange(4) != asked.true[:, None]]
    assert np.bincount(asked.true).min() > 15
    assert set(wrong.reshape(-1)) <= set(POOL.items)
    assert len({category_of(DATA, int(item)) for item in wrong.reshape(-1)}) == 7


def test_the_same_category_changes_nothing_but_items() -> None:
    asked = ask("same_category")
    for rows in (asked.blanks, asked.other):
        for row in range(len(rows)):
            own = outfit(DATA, int(TEST[row % 40]))
            expected = {category_of(DATA, item) for item in own}
            for one in range(rows.member.shape[1]):
                assert {category_of(DATA, item) for item in items(rows, row, one)} == expected


def test_positions_are_drawn_evenly() -> None:
    data = random_outfits(train=60, test=1, categories=7, seed=3)
    whole = np.arange(60, 61)
    asked = drawn(data, whole, POOL, protocol="same_category", repeats=600, seed=1)
    missing = np.take_along_axis(asked.blanks.items[:, -4:], asked.true[:, None], 1)
    counts = np.unique(missing, return_counts=True)[1]
    assert len(counts) == len(outfit(data, 60))
    assert counts.min() > 0.7 * 600 / len(counts)


def test_questions_are_a_function_of_the_seed() -> None:
    first, again, other = ask(), ask(), ask(seed=6)
    assert (first.blanks.items == again.blanks.items).all()
    assert (first.other.items == again.other.items).all()
    assert (first.blanks.items != other.blanks.items).any()
    # A repeat more changes none of those before.
    assert (ask(repeats=5).blanks.items[:120] == first.blanks.items).all()


def test_repeats_differ() -> None:
    blanks = ask().blanks.items.reshape(3, 40, -1)
    assert (blanks[0] != blanks[1]).any()
    assert (blanks[1] != blanks[2]).any()


@pytest.fixture
def asked() -> tuple[Outfits, PublishedQuestions]:
    """One item of each of five categories, and another of the first."""
    data = random_outfits(categories=6, train=80)
    a, b, c, d, e = (int(data.category_offsets[n]) for n in range(5))
    questions = PublishedQuestions(
        context=np.array([[a, b, UNUSED], [a, UNKNOWN, c], [a, b, UNUSED], [UNKNOWN, UNKNOWN, UNUSED]], np.int32),
        position=np.array([2, 0, 1, 1], np.int32),
        answers=np.array([[c, d, e, a + 1], [b, d, e, UNKNOWN], [c, a + 1, b, d], [a, b, c, d]], np.int32),
        outfit=np.array([[a, b, c], [a, a + 1, UNUSED], [UNKNOWN, b, UNUSED]], np.int32),
        label=np.array([1, 0, 1], np.uint8),
    )
    return data, questions


def test_published_questions(asked: tuple[Outfits, PublishedQuestions]) -> None:
    data, questions = asked
    a, b, c, d, e = (int(data.category_offsets[n]) for n in range(5))
    found = published(data, questions)
    # By answer, wherever it was put.
    places = [found.blanks.items[row, -4:].tolist() for row in range(4)]
    sent = np.where(questions.answers < 0, NOTHING, questions.answers).tolist()
    sets = [[items(found.blanks, row, places[row].index(answer)) for answer in sent[row]] for row in range(4)]
    assert [places[row][found.true[row]] for row in range(4)] == [answers[0] for answers in sent]
    # The blank is last: an answer of a category that is there replaces it.
    assert sets[0] == [{a, b, c}, {a, b, d}, {a, b, e}, {a + 1, b}]
    assert sets[1][:3] == [{a, b, c}, {a, c, d}, {a, c, e}]
    # The blank is second: what stands behind it stays, what stands before it goes.
    assert sets[2] == [{a, b, c}, {a + 1, b}, {a, b}, {a, b, d}]
    assert sets[3] == [{a}, {b}, {c}, {d}]
    assert found.answerable.tolist() == [True, False, True, True]
    assert [items(found.real, row, 0) for row in range(2)] == [{a, b, c}, {b}]
    assert items(found.other, 0, 0) == {a + 1}
    assert [mask.tolist() for mask in found.complete] == [[True, False], [True]]
    assert not found.paired


def test_wrong_answers_of_one_category_differ_and_every_item_comes() -> None:
    data = random_outfits(train=200, test=40, categories=3, longest=3)
    pool = Pool.of(data, np.arange(200, 240))
    assert pool.sizes.min() > 4
    asked = drawn(data, np.arange(200, 240), pool, protocol="same_category", repeats=200, seed=1)
    answers = asked.blanks.items[:, -4:]
    assert (np.diff(np.sort(answers, axis=1), axis=1) > 0).all()
    wrong = answers[np.arange(4) != asked.true[:, None]]
    counts = np.bincount(np.searchsorted(pool.items, wrong), minlength=len(pool.items))
    shares = [counts[a:b] / counts[a:b].sum() * (b - a) for a, b in pairwise(pool.offsets)]
    assert min(share.min() for share in shares) > 0.6
    assert max(share.max() for share in shares) < 1.5


def test_too_few_items_repeat() -> None:
    pool = Pool(np.array([3, 4, 9]), np.array([0, 2, 2, 3]))
    draw = np.random.default_rng(0)
    found = pool.distinct(np.array([0, 0, 2, 1]), np.array([3, 7, 9, 5]), 3, draw)
    assert set(found[0]) <= {3, 4}
    assert found[0, 0] == 4
    assert sorted(set(found[1])) == [3, 4]
    assert set(found[2]) == {9}
    assert set(found[3]) == {NOTHING}


def test_guesses_are_right_in_a_quarter_of_the_blanks() -> None:
    data = random_outfits(train=50, test=400, categories=3, longest=3)
    pool = Pool.of(data, np.arange(50, 450))
    score = np.random.default_rng(3).normal(size=(100, data.num_items))
    asked = drawn(data, np.arange(50, 450), pool, protocol="same_category", repeats=3, seed=1)
    answers = asked.blanks.items[:, -4:]
    hits = [(own[answers].argmax(axis=1) == asked.true).mean() for own in score]
    assert np.mean(hits) == pytest.approx(0.25, abs=0.005)
