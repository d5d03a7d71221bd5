"""Questions as files: what they say, and that their answers are the same when they are read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets.outfit_files.place import Place
from recexp.datasets.outfit_files.questions import files, read
from recexp.problems.outfit_arrays import Pool
from recexp.problems.outfit_protocols import metrics, rows_of
from recexp.problems.outfit_question_files import write
from recexp.problems.outfit_questions import Questions, drawn, published
from tests.support.outfit_cases import outfit, random_outfits

PLAIN = random_outfits(train=60, test=40, categories=7)
DATA = replace(PLAIN, item_labels=np.array([f"{n // 9}_{n % 9}" for n in range(PLAIN.num_items)]))
TEST = np.array([n for n in range(60, 100) if len(outfit(DATA, n)) > 1])


def asked(protocol: str) -> Questions:
    pool = Pool.of(DATA, np.arange(60))
    return drawn(DATA, TEST, pool, protocol=protocol, repeats=2, seed=5)


@pytest.mark.parametrize("protocol", ["random_category", "same_category"])
def test_files_that_are_read_again_ask_the_same(protocol: str, tmp_path: Path) -> None:
    questions = asked(protocol)
    assert [path.parent.name for path in write(tmp_path, DATA, [questions])] == [protocol, protocol]
    numbers = {str(label): number for number, label in enumerate(DATA.item_labels.tolist())}
    found, _ = read(files(Place(tmp_path / protocol)), numbers)
    assert found is not None
    again = published(DATA, found)
    value = np.random.default_rng(1).normal(size=DATA.num_items).astype(np.float32)

    def answered(one: Questions) -> dict[str, float]:
        sets = [(value[rows.items][:, None] * rows.member).sum(2) for rows in rows_of([one])]
        return metrics([one], sets, "fair")

    first, second = answered(questions), answered(again)
    assert second["fitb_published"] == pytest.approx(first[f"fitb_{protocol}"])
    assert second["auc_published"] == pytest.approx(first[f"auc_{protocol}"])
    assert len(again.blanks) == len(questions.blanks)


def test_what_a_question_says(tmp_path: Path) -> None:
    write(tmp_path, DATA, [asked("same_category")])
    sent = json.loads((tmp_path / "same_category" / "fill_in_blank_test.json").read_text())
    for row, question in enumerate(sent):
        own = [str(DATA.item_labels[item]) for item in outfit(DATA, int(TEST[row % len(TEST)]))]
        at = question["blank_position"] - 1
        assert question["question"] == own[:at] + own[at + 1 :]
        assert question["answers"][0] == own[at]
        assert len(question["answers"]) == 4
    lines = (tmp_path / "same_category" / "fashion_compatibility_prediction.txt").read_text().splitlines()
    assert [line[0] for line in lines] == ["1"] * len(TEST) + ["0"] * 2 * len(TEST)
