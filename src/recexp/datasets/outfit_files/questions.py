"""Published questions about outfits: which item fills the blank, and which outfits people made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.outfit_files.place import Found, Place
from recexp.datasets.outfits import UNKNOWN, UNUSED, PublishedQuestions
from recexp.errors import DataError

BLANK = ("fill_in_blank_test.json", "fill_in_the_blank_test.json", "fill-in-blank-test.json")
LABELLED = ("fashion_compatibility_prediction.txt", "fashion-compatibility-prediction.txt")


def files(place: Place) -> dict[str, Found]:
    """The files of questions that are there, as ``BLANK[0]`` and ``LABELLED[0]``."""
    found = {names[0]: place.find(names) for names in (BLANK, LABELLED)}
    return {name: file for name, file in found.items() if file is not None}


def read(found: Mapping[str, Found], items: Mapping[str, int]) -> tuple[PublishedQuestions | None, dict[str, int]]:
    """The questions with the items' numbers, and counts: all of them, and those that know all their items.

    Args:
        found: What ``files`` found; nothing gives None.
        items: The number of each item by its label.

    Raises:
        DataError: a question or a labelled outfit is malformed; the message names file and number.
    """
    if not found:
        return None, {}
    blank = _questions(found[BLANK[0]]) if BLANK[0] in found else []
    labelled = _labelled(found[LABELLED[0]]) if LABELLED[0] in found else []
    published = PublishedQuestions(
        context=_numbered([context for context, _, _ in blank], items),
        position=np.array([position for _, position, _ in blank], np.int32),
        answers=_numbered([answers for _, _, answers in blank], items),
        outfit=_numbered([outfit for outfit, _ in labelled], items),
        label=np.array([label for _, label in labelled], np.uint8),
    )
    known = np.all(published.context != UNKNOWN, axis=1) & np.all(published.answers != UNKNOWN, axis=1)
    notes = {
        "published_questions": len(blank),
        "published_questions_with_all_items_known": int(known.sum()),
        "published_questions_with_all_answers_known": int(np.all(published.answers != UNKNOWN, axis=1).sum()),
        "labelled_outfits": len(labelled),
        "labelled_outfits_with_all_items_known": int(np.all(published.outfit != UNKNOWN, axis=1).sum()),
    }
    return published, notes


def _numbered(rows: Sequence[Sequence[str]], items: Mapping[str, int]) -> npt.NDArray[np.int32]:
    found = np.full((len(rows), max(map(len, rows), default=0)), UNUSED, np.int32)
    for row, labels in enumerate(rows):
        found[row, : len(labels)] = [items.get(label, UNKNOWN) for label in labels]
    return found


def _questions(file: Found) -> list[tuple[list[str], int, list[str]]]:
    content = file.json()
    if not isinstance(content, list) or not content:
        raise DataError(f"{file} must be a list of questions and holds {str(content)[:60]}. Fetch it again.")
    return [_question(question, f"{file}, question {number}") for number, question in enumerate(content, start=1)]


def _question(question: Any, where: str) -> tuple[list[str], int, list[str]]:
    if not isinstance(question, dict):
        raise DataError(f"{where} must have question, answers and blank_position and is {str(question)[:60]}.")
    context, answers, blank = (question.get(name) for name in ("question", "answers", "blank_position"))
    for name, labels, least in (("question", context, 1), ("answers", answers, 2)):
        if not isinstance(labels, list) or len(labels) < least or not all(map(_is_label, labels)):
            raise DataError(
                f"{where}: {name} must be a list of {least} items or more like 119704139_1 and is {str(labels)[:60]}."
            )
    assert isinstance(context, list)
    assert isinstance(answers, list)
    if isinstance(blank, bool) or not isinstance(blank, int) or not 1 <= blank <= len(context) + 1:
        raise DataError(
            f"{where}: blank_position is {blank!r}; it counts from 1, and the outfit has {len(context) + 1} items."
        )
    return context, blank - 1, answers


def _labelled(file: Found) -> list[tuple[list[str], int]]:
    found = []
    for number, line in enumerate(file.read().decode("utf-8", "replace").splitlines(), start=1):
        label, *outfit = line.split() or [""]
        if not label and not outfit:
            continue
        if label not in {"0", "1"} or len(outfit) < 2 or not all(map(_is_label, outfit)):
            raise DataError(
                f"{file}, line {number}: {line[:60]!r} must be 0 or 1 and two items or more like 119704139_1."
            )
        found.append((outfit, int(label)))
    return found


def _is_label(label: object) -> bool:
    if not isinstance(label, str):
        return False
    outfit, _, index = label.rpartition("_")
    return bool(outfit) and index.isdecimal()
