"""The parts of a click log: the published numbers, exact sizes, and independence of how rows are asked for."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest

from recexp.datasets.click_logs.recipe import PRESETS, Recipe, recipe_of
from recexp.datasets.click_logs.split import LEFT_OVER, SUBSAMPLED, TEST, TRAIN, VAL, Split
from recexp.errors import ConfigError

DAYS, BLOCKS, RANDOM = PRESETS["dlrm_kaggle"], PRESETS["ms_deepfm"], PRESETS["bars_x4"]
KAGGLE = 45_840_617


def parts(recipe: Recipe, *sources: int, label: np.ndarray | None = None) -> np.ndarray:
    rows = sum(sources)
    return Split(recipe, sources).part_of(0, np.zeros(rows, np.uint8) if label is None else label)


def test_days_of_the_challenge() -> None:
    """The reference cuts with numpy.array_split, the last day again into two."""
    split = Split(DAYS, [KAGGLE])
    days = [6_548_660] * 4 + [6_548_659] * 3
    assert sum(days) == KAGGLE
    edges = [sum(days[:6]), sum(days[:6]) + 3_274_330, KAGGLE]
    assert edges[0] == 39_291_958
    assert edges[2] - edges[1] == 3_274_329
    for edge, before, after in ((edges[0], TRAIN, TEST), (edges[1], TEST, VAL)):
        assert split.part_of(edge - 1, np.zeros(2, np.uint8)).tolist() == [before, after]


@pytest.mark.parametrize("rows", [7, 10, 100, 10_003])
@pytest.mark.parametrize("days", [2, 7])
def test_days_are_those_of_array_split(rows: int, days: int) -> None:
    found = parts(dataclasses.replace(DAYS, days=days), rows)
    cut = np.array_split(np.arange(rows), days)
    test, val = np.array_split(cut[-1], 2)
    assert np.flatnonzero(found == TEST).tolist() == test.tolist()
    assert np.flatnonzero(found == VAL).tolist() == val.tolist()


def test_several_sources_are_days() -> None:
    assert parts(DAYS, 5, 3, 3).tolist() == [TRAIN] * 8 + [TEST] * 2 + [VAL]


def test_blocks_are_those_of_the_source_program() -> None:
    """Its own lines: all line numbers shuffled as a list; a block is test if its last line is in the first tenth."""
    rows = 37_500
    lines = list(range(rows))
    np.random.seed(2020)
    np.random.shuffle(lines)
    chosen = set(lines[: int(rows * 0.1)])
    found = parts(BLOCKS, rows)
    for block in range(37):
        own = set(found[block * 1000 : block * 1000 + 1000].tolist())
        assert len(own) == 1
        assert (own == {TEST}) == (block * 1000 + 999 in chosen)
    assert set(found[37_000:].tolist()) == {LEFT_OVER}
    assert (found == VAL).sum() == 4000


@pytest.mark.slow
def test_blocks_of_the_challenge() -> None:
    split = Split(BLOCKS, [KAGGLE])
    last = [int(split.part_of(block * 1000, np.zeros(1, np.uint8))[0]) for block in range(45_841)]
    assert last.count(TEST) == 4518
    assert last.count(TRAIN) + last.count(VAL) == 41_322
    assert last[-1] == LEFT_OVER


@pytest.mark.parametrize("rows", [10, 1000, 1_000_003])
@pytest.mark.parametrize("preset", ["bars_x1", "bars_x4"])
def test_random_parts_have_exact_sizes(rows: int, preset: str) -> None:
    recipe = PRESETS[preset]
    counts = np.bincount(parts(recipe, rows), minlength=3)
    assert counts[TEST] == round(rows * 0.1)
    assert counts[VAL] == round(rows * recipe.validation_share)


def test_published_sizes_of_x4() -> None:
    assert [round(KAGGLE * 0.1), KAGGLE - 2 * round(KAGGLE * 0.1)] == [4_584_062, 36_672_493]


@pytest.mark.parametrize("recipe", [DAYS, BLOCKS, RANDOM])
def test_rows_may_be_asked_for_in_any_pieces(recipe: Recipe) -> None:
    rows, rng = 20_000, random.Random(1)
    recipe = dataclasses.replace(recipe, negative_subsampling=0.3)
    label = (np.arange(rows) % 4 == 0).astype(np.uint8)
    split, whole = Split(recipe, [rows]), parts(recipe, rows, label=label)
    edges = [0, *sorted(rng.sample(range(rows), 20)), rows]
    pieces = [split.part_of(low, label[low:high]) for low, high in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_subsampling_takes_negatives_alone_and_about_the_share() -> None:
    label = (np.arange(100_000) % 3 == 0).astype(np.uint8)
    for recipe in (DAYS, RANDOM):
        found = parts(dataclasses.replace(recipe, negative_subsampling=0.875), 100_000, label=label)
        assert not (found[label == 1] == SUBSAMPLED).any()
        assert (found[label == 0] == SUBSAMPLED).mean() == pytest.approx(0.875, abs=0.01)
        # whether a row is left out says nothing about its part
        kept = found[(found != SUBSAMPLED) & (label == 0)]
        assert (kept == TRAIN).mean() == pytest.approx((parts(recipe, 100_000) == TRAIN).mean(), abs=0.015)


def test_seeds_give_other_parts() -> None:
    one, other = (parts(dataclasses.replace(RANDOM, split_seed=seed), 10_000) == TEST for seed in (1, 2))
    assert (one & other).sum() == pytest.approx(100, abs=40)


def test_an_option_without_effect_is_refused_together_with_the_others() -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of({"split_seed": 3, "test_share": 0.2}, DAYS)
    assert "dataset.split_seed=3" in str(caught.value)
    assert "dataset.test_share=0.2" in str(caught.value)
    with pytest.raises(ConfigError, match="below 1"):
        recipe_of({"test_share": 0.5, "validation_share": 0.5}, RANDOM)
    assert recipe_of({"min_count": 3, "dense": None}, RANDOM) == dataclasses.replace(RANDOM, min_count=3)
