"""Ids of a field against counting by hand, and the golden recipe of DeepFM on its toy lines."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recexp.datasets.click_logs.build import Build, LogFormat
from recexp.datasets.click_logs.fields import Column, _of_hour, ids_of
from recexp.datasets.click_logs.layout import Layout
from recexp.datasets.click_logs.numbering import Numbering
from recexp.datasets.click_logs.recipe import PRESETS
from recexp.datasets.click_logs.text_source import TextSource
from recexp.datasets.malformed import Policy

GOLDEN = Path(__file__).parents[2] / "golden" / "deepfm.json"


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 2**32 - 1) | st.integers(0, 5), max_size=30), max_size=6))
def test_values_are_numbered_as_they_appear(pieces: list[list[int]]) -> None:
    is_wide = any(value < 0 for piece in pieces for value in piece)
    numbering, seen = Numbering(is_wide=is_wide), {}
    for piece in pieces:
        found = numbering.number(np.array(piece, np.int64 if is_wide else np.uint32))
        assert found.dtype == np.int32
        assert found.tolist() == [seen.setdefault(value, len(seen)) for value in piece]
    assert len(numbering) == len(seen)


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 5), st.booleans())
def test_ids_against_counting(values: list[int], least: int, by_frequency: bool) -> None:
    order = list(dict.fromkeys(values))
    counter = Counter(values)
    kept = [value for value in order if counter[value] >= least]
    if by_frequency:
        kept.sort(key=lambda value: -counter[value])
    recipe = replace(PRESETS["bars_x4"], min_count=least, id_order="frequency" if by_frequency else "appearance")
    id_of, size = ids_of(np.array([counter[value] for value in order]), recipe)
    assert id_of.tolist() == [kept.index(value) + 1 if value in kept else 0 for value in order]
    assert size == len(kept) + 1


def test_no_id_for_rare_values_where_there_are_none() -> None:
    recipe = replace(PRESETS["dlrm_kaggle"], vocabulary="all")
    id_of, size = ids_of(np.array([3, 1, 2]), recipe)
    assert id_of.tolist() == [0, 1, 2]
    assert size == 3


def test_golden_toy_of_deepfm(tmp_path: Path) -> None:
    cases = {case["name"]: case for case in json.loads(GOLDEN.read_text())["cases"]}
    golden = cases["criteo_preprocess_toy"]
    lines = golden["input"]["lines_label_dense_cat"]
    path = tmp_path / "toy.txt"
    # The whole file is one block less, so its rows are repeated until blocks are full: counts grow with them.
    times = 2000
    path.write_text("".join("\t".join(line) + "\n" for line in lines) * times)
    layout = Layout("\t", ("label", "I1", "C1"), ("label", "number", "hex"))
    recipe = replace(
        PRESETS["ms_deepfm"], vocabulary="all", min_count=golden["input"]["threshold"] * times + 1, split_seed=1
    )
    build = Build([TextSource(path)], LogFormat(layout, (Column("C1", 0),), numbers=True), recipe, Policy())
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    written = build.write(tmp_path / "out", tmp_path / "work")
    ids, dense, label = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("ids", "dense", "label"))
    # In the golden case ids of all fields follow each other: the number's is 0, then rare C1, then the kept ones.
    expected = golden["expected"]
    for row, wanted in enumerate(expected["rows"] * times):
        assert ids[row, 0] + expected["feature_ids"]["oov_C1"] == wanted["ids"][1]
        assert dense[row, 0] == pytest.approx(wanted["weights"][0])
        assert label[row] == wanted["label"]
    assert written.fields[0].size == 2
    assert written.left_out["rare_values"] == 2


def test_of_hour() -> None:
    import pandas as pd

    hours = pd.date_range("2014-10-21", "2015-03-02", freq="h")
    number = np.array([int(f"{hour:%y%m%d%H}") for hour in hours])
    assert _of_hour(number, "hour").tolist() == hours.hour.tolist()
    assert _of_hour(number, "weekday").tolist() == hours.weekday.tolist()
    assert _of_hour(number, "is_weekend").tolist() == [int(day >= 5) for day in hours.weekday]
