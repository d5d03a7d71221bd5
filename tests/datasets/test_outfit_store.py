"""Prepared outfits: what was written is what is opened, and what is damaged is noticed."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recexp.datasets import outfit_store as store
from recexp.datasets.events import DataMeta
from recexp.datasets.outfits import UNKNOWN, UNUSED, Category, Outfits, PublishedQuestions

ARRAYS = (
    "category_offsets", "members", "offsets", "item_labels", "outfit_labels", "image", "words", "word_offsets",
)  # fmt: skip
QUESTIONS = ("context", "position", "answers", "outfit", "label")


@pytest.fixture
def outfits() -> Outfits:
    """Six items of three categories in two outfits."""
    published = PublishedQuestions(
        context=np.array([[0, UNUSED], [UNKNOWN, 4]], np.int32),
        position=np.array([1, 2], np.int32),
        answers=np.array([[3, 5, UNKNOWN], [1, 0, 2]], np.int32),
        outfit=np.array([[0, 3, 5]], np.int32),
        label=np.array([1], np.uint8),
    )
    return Outfits(
        category_offsets=np.array([0, 2, 2, 4, 6]),
        members=np.array([3, 0, 1, 5, 2], np.int32),
        offsets=np.array([0, 2, 5]),
        bounds=(0, 1, 1, 2),
        categories=tuple(Category(str(id), f"Kind {id}") for id in (9, 5, 46, 17)),
        item_labels=np.array(["1_1", "2_10", "2_3", "1_4", "3_1", "2_1"]),
        outfit_labels=np.array(["1", "2"]),
        meta=DataMeta("handmade", "", "none", "test", synthetic=True, rows_read=2, notes={"seen": 3}),
        image=np.arange(24, dtype=np.float16).reshape(6, 4),
        words=np.array([0, 4, 1, 2, 3, 0], np.int32),
        word_offsets=np.array([0, 2, 2, 5, 5, 5, 6]),
        num_words=5,
        published=published,
    )


def test_what_was_written_is_opened(outfits: Outfits, tmp_path: Path) -> None:
    found = store.publish(tmp_path / "x", outfits)
    for name in ARRAYS:
        assert getattr(found, name).dtype == getattr(outfits, name).dtype
        assert np.array_equal(getattr(found, name), getattr(outfits, name))
    for name in QUESTIONS:
        assert np.array_equal(getattr(found.published, name), getattr(outfits.published, name))
    for name in ("bounds", "categories", "num_words"):
        assert getattr(found, name) == getattr(outfits, name)
    assert found.meta == replace(outfits.meta, fingerprint=found.meta.fingerprint)
    found.image[0] = 7  # mapped copy-on-write
    assert np.array_equal(store.load(tmp_path / "x").image, outfits.image)


def test_what_is_not_there_stays_away(outfits: Outfits, tmp_path: Path) -> None:
    bare = replace(outfits, image=None, words=None, word_offsets=None, num_words=0, published=None)
    found = store.publish(tmp_path / "x", bare)
    assert (found.image, found.words, found.word_offsets, found.published) == (None, None, None, None)
    assert found.modalities == {"category": 1}


def test_the_fingerprint_is_of_all_that_the_arrays_mean(outfits: Outfits, tmp_path: Path) -> None:
    prints = [store.publish(tmp_path / "0", outfits).meta.fingerprint]
    changes = {
        "image": outfits.image + 1, "words": np.array([0, 3, 1, 2, 3, 0], np.int32), "num_words": 6, "published": None,
        "bounds": (0, 1, 2, 2), "item_labels": outfits.item_labels[::-1].copy(),
        "members": outfits.members + np.array([0, 1, 0, 0, 0], np.int32), "outfit_labels": np.array(["1", "3"]),
        "categories": (Category("9", "Other"), *outfits.categories[1:]),
    }  # fmt: skip
    for name, value in changes.items():
        prints.append(store.publish(tmp_path / name, replace(outfits, **{name: value})).meta.fingerprint)
    for name in QUESTIONS:
        other = getattr(outfits.published, name) * (0 if name in {"position", "label"} else 1)
        if name not in {"position", "label"}:
            other = np.where(other == 0, 1, other).astype(other.dtype)
        changed = replace(outfits, published=replace(outfits.published, **{name: other}))
        prints.append(store.publish(tmp_path / f"q{name}", changed).meta.fingerprint)
    assert len(set(prints)) == len(prints)
    assert store.publish(tmp_path / "again", outfits).meta.fingerprint == prints[0]


CONTRADICTIONS = {
    "members": (np.array([3, 0, 1, 6, 2], np.int32), r"members has ids 0\.\.6, legal are 0\.\.5"),
    "offsets": (np.array([0, 6, 5]), "offsets does not ascend"),
    "category_offsets": (np.array([0, 2, 1, 4, 6]), "category_offsets does not ascend"),
    "bounds": ((0, 1, 1, 3), "the parts"),
    "item_labels": (np.array(["a"]), "labels of 6 items"),
    "image": (np.zeros((5, 4), np.float16), "6 items have one row each"),
    "words": (np.array([4, 0, 1, 2, 3, 0], np.int32), "do not ascend"),
    "num_words": (4, r"words has ids 0\.\.4"),
    "word_offsets": (None, "come together"),
    "outfit_labels": (np.array(["1"]), "offsets does not ascend"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_arrays_that_contradict_each_other(outfits: Outfits, tmp_path: Path, name: str) -> None:
    value, told = CONTRADICTIONS[name]
    with pytest.raises(ValueError, match=told):
        store.publish(tmp_path / "x", replace(outfits, **{name: value}))
    assert not (tmp_path / "x").exists()


def test_two_items_of_a_category(outfits: Outfits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the outfit 2 has two items of the category 9"):
        store.publish(tmp_path / "x", replace(outfits, members=np.array([3, 0, 1, 0, 2], np.int32)))


@pytest.mark.parametrize(("name", "value"), [("answers", 6), ("context", -3), ("position", 3), ("label", 2)])
def test_questions_about_nothing(outfits: Outfits, tmp_path: Path, name: str, value: int) -> None:
    array = getattr(outfits.published, name).copy()
    array.flat[0] = value
    with pytest.raises(ValueError, match=name):
        store.publish(tmp_path / "x", replace(outfits, published=replace(outfits.published, **{name: array})))


@pytest.mark.parametrize("name", [*ARRAYS, *(f"question_{each}" for each in QUESTIONS)])
def test_changed_content(outfits: Outfits, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    store.publish(tmp_path / "x", outfits)
    path = tmp_path / "x" / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1 if name.endswith("_label") else -4] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    with caplog.at_level(logging.WARNING):
        assert store.load(tmp_path / "x") is None
    assert re.search(f"damaged .*{name.removeprefix('question_')} does not have the content", caplog.text)


def test_other_damage(outfits: Outfits, tmp_path: Path) -> None:
    for name, break_it in {
        "short": lambda folder: os.truncate(folder / "image.npy", 100),
        "no_array": lambda folder: (folder / "words.npy").unlink(),
        "meta": lambda folder: (folder / "meta.json").write_text("{"),
    }.items():
        store.publish(tmp_path / name, outfits)
        break_it(tmp_path / name)
        assert store.load(tmp_path / name) is None, name
    store.publish(tmp_path / "y", outfits)
    meta = tmp_path / "y" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "bounds": [0, 2, 1, 2]}))
    assert store.load(tmp_path / "y") is None
    assert store.load(tmp_path / "nothing") is None


def test_content_is_checked_once_for_unchanged_files(
    outfits: Outfits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(tmp_path / "x", outfits)
    monkeypatch.setattr(store, "_check_content", lambda *_: pytest.fail("checked again"))
    assert store.load(tmp_path / "x") is not None
