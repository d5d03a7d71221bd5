"""Frozen questions as files, in the form in which others publish theirs: for other systems, and to be read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from recexp.datasets.outfits import Outfits
from recexp.problems.outfit_arrays import NOTHING, Ids
from recexp.problems.outfit_questions import ANSWERS, Questions
from recexp.storage.atomic import atomic_file

BLANKS, OUTFITS = "fill_in_blank_test.json", "fashion_compatibility_prediction.txt"


def write(folder: Path, data: Outfits, questions: Sequence[Questions]) -> list[Path]:
    """Two files for each protocol, in a folder of its name: ``dataset.questions`` reads them as published ones.

    Repeats stand one after the other. A blank names its outfit as it was drawn: an item of a category that is there
    already replaces that one when the files are read, as it does here.

    Args:
        folder: Is made where it is not there.
        data: The dataset that the items' labels are of.
        questions: Of some protocols.

    Returns:
        The files.
    """
    written = []
    for asked in questions:
        own = folder / asked.name
        own.mkdir(parents=True, exist_ok=True)
        for name, text in ((BLANKS, _blanks(data, asked)), (OUTFITS, _outfits(data, asked))):
            with atomic_file(own / name, "w") as stream:
                stream.write(text)
            written.append(own / name)
    return written


def _blanks(data: Outfits, asked: Questions) -> str:
    rows = []
    for items, true in zip(asked.blanks.items, asked.true, strict=True):
        context, answers = items[:-ANSWERS], items[-ANSWERS:]
        # Items stand from the left on, so that the first gap is the blank.
        position = int((context == NOTHING).argmax())
        wrong = [answer for place, answer in enumerate(answers) if place != true]
        question = {
            "question": _labels(data, context),
            "answers": _labels(data, [answers[true], *wrong]),
            "blank_position": position + 1,
        }
        rows.append(json.dumps(question, ensure_ascii=False))
    return "[\n" + ",\n".join(rows) + "\n]\n"


def _outfits(data: Outfits, asked: Questions) -> str:
    sets = ((1, asked.real), (0, asked.other))
    return "".join(f"{label} {' '.join(_labels(data, items))}\n" for label, rows in sets for items in rows.items)


def _labels(data: Outfits, items: Ids | Sequence[int]) -> list[str]:
    return [str(data.item_labels[item]) for item in items if item != NOTHING]
