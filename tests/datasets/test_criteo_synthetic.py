"""``dataset=criteo_synthetic``: written once, handed to the reader of such files with all options, labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recexp.datasets import criteo_generator
from recexp.datasets.criteo_generator import Plan
from recexp.datasets.impressions import Impressions
from recexp.datasets.prepare import prepare
from recexp.errors import ConfigError

NODE = {
    "_target_": "recexp.datasets.criteo_synthetic.read", "name": "criteo_synthetic", "recipe": "dlrm_kaggle",
    "impressions": 2_100, "max_cardinality": 50, "structure": 1.0, "seed": 4,
}  # fmt: skip


def make(cache: Path, **options: object) -> Impressions:
    impressions = prepare({**NODE, **options}, data=None, cache=cache)
    assert isinstance(impressions, Impressions)
    return impressions


def test_every_line_is_read_and_labelled_as_generated(tmp_path: Path) -> None:
    impressions = make(tmp_path)
    assert len(impressions) == 2_100
    assert impressions.meta.synthetic is True
    assert impressions.meta.origin == "generated (2,100 impressions, seed 4)"
    assert (impressions.bounds, impressions.dense.shape) == ((0, 1_800, 1_950, 2_100), (2_100, 13))
    (file,) = (tmp_path / "generated").rglob("train.txt")
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    order = [*range(1_800), *range(1_950, 2_100), *range(1_800, 1_950)]  # the last day: first test, then validation
    assert impressions.label.tolist() == [int(rows[row][0]) for row in order]
    numbers = np.array([[float(field or 0) for field in row[1:14]] for row in rows])[order]
    assert np.allclose(impressions.dense, np.log1p(np.maximum(numbers, 0)), rtol=1e-6)


def test_the_file_is_written_once_for_all_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(tmp_path)
    monkeypatch.setattr(criteo_generator, "write", None)
    again = make(tmp_path, recipe="bars_x4")
    assert again.meta.fingerprint != first.meta.fingerprint
    assert make(tmp_path).meta == first.meta


def test_a_deleted_file_is_missed_by_nobody(tmp_path: Path) -> None:
    first = make(tmp_path)
    (file,) = (tmp_path / "generated").rglob("train.txt")
    file.unlink()
    assert make(tmp_path).meta.fingerprint == first.meta.fingerprint
    assert not file.exists()


def test_same_plan_same_data_other_plan_other_data(tmp_path: Path) -> None:
    first = make(tmp_path / "a").meta.fingerprint
    assert make(tmp_path / "b").meta.fingerprint == first
    for other in ({"seed": 5}, {"structure": 0.0}, {"max_cardinality": 20}, {"impressions": 2_101}):
        assert make(tmp_path / "a", **other).meta.fingerprint != first


def test_files_have_no_meaning(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.path has no meaning"):
        make(tmp_path, path="train.txt")


def test_options_become_a_plan() -> None:
    assert Plan.of(NODE) == Plan(rows=2_100, max_cardinality=50, structure=1.0, seed=4)
    assert Plan.of({}) == Plan()
