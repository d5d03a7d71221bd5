"""What ``task=prepare`` shows of outfits."""

from __future__ import annotations

from pathlib import Path

from outfit_files import TEST, TRAIN, labels, write_ngnn, write_questions, write_vectors

from recexp.datasets.prepare import prepare as prepare_data
from recexp.tasks import prepare


def test_facts(tmp_path: Path) -> None:
    write_ngnn(tmp_path / "x")
    write_questions(tmp_path / "x", [(["201_1"], ["201_2", "101_1"], 2)], [(1, ["201_1", "201_2"])] * 3)
    write_vectors(tmp_path / "x" / "polyvore_image_vec", {label: [0.5, 1.0] for label in labels(TRAIN, TEST)})
    node = {
        "_target_": "recexp.datasets.polyvore.read", "name": "polyvore", "features": "image",
        "path": str(tmp_path / "x"),
    }  # fmt: skip
    assert prepare._facts(prepare_data(node, data=None, cache=tmp_path / "cache")) == {
        "outfits": "5: 3 to 4 items each, 3.40 on average",
        "parts": "train 3, val 0, test 2",
        "items": "17 in 6 categories",
        "known of items": "image 2",
        "published": "1 questions, 3 labelled outfits",
    }
