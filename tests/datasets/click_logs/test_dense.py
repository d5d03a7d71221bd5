"""Numbers of a click log against the golden cases and against math."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.datasets.click_logs.dense import as_categories, by_largest, largest_of, log1p
from recexp.datasets.click_logs.layout import MISSING

GOLDEN = Path(__file__).parents[2] / "golden"


def case(file: str, name: str) -> dict:
    return next(each for each in json.loads((GOLDEN / file).read_text())["cases"] if each["name"] == name)


def test_golden_log1p() -> None:
    golden = case("dlrm.json", "dense_transform")
    raw = np.array([MISSING if x is None else int(x) for x in golden["input"]["raw"]], np.int32)
    assert log1p(raw) == pytest.approx(golden["expected"]["value"], rel=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(16_000, 17_000)))
def test_log1p_is_that_of_math(numbers: list[int]) -> None:
    expected = [np.float32(math.log1p(max(n, 0))) for n in numbers]
    assert log1p(np.array(numbers, np.int32)).tolist() == pytest.approx(expected, rel=1e-7)


def test_golden_categories() -> None:
    golden = case("deepfm.json", "dense_discretisation_variants")
    raw = np.array(golden["input"]["x"], np.int32)
    expected = golden["expected"]
    assert as_categories(raw, "log2").tolist() == expected["bars_doc_floor_log2"]
    assert as_categories(raw, "ln_squared").tolist() == expected["fuxictr_code_floor_ln_squared"]
    assert log1p(raw) == pytest.approx(expected["dlrm_log1p"], rel=1e-6)


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(3, 2**31 - 1), st.integers(0, 30).map(lambda p: 2**p), st.integers(3, 5000))))
def test_categories_are_those_of_math(numbers: list[int]) -> None:
    numbers = [n for n in numbers if n > 2]
    raw = np.array(numbers, np.int32)
    assert as_categories(raw, "ln_squared").tolist() == [math.floor(math.log(n) ** 2) for n in numbers]
    assert as_categories(raw, "log2").tolist() == [n.bit_length() - 1 for n in numbers]


def test_what_is_small_stays_and_what_is_missing_is_0() -> None:
    raw = np.array([-3, -1, 0, 1, 2, MISSING], np.int32)
    for kind in ("ln_squared", "log2"):
        assert as_categories(raw, kind).tolist() == [-3, -1, 0, 1, 2, 0]


def test_by_largest() -> None:
    raw = np.array([[4, MISSING, 8, -2], [-1, -2, 0, MISSING]], np.int32)
    largest = largest_of(raw)
    assert largest.tolist() == [8, 0]
    assert by_largest(raw, largest).tolist() == [[0.5, 0.0, 1.0, -0.25], [-1.0, -2.0, 0.0, 0.0]]
