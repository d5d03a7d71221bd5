"""Polyvore's outfits: the files give these arrays, real ones have the published counts, faults are named."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outfit_files import (
    CATEGORIES,
    TEST,
    TRAIN,
    labels,
    pack,
    write_ngnn,
    write_questions,
    write_vectors,
    write_xthan,
)

from recexp.datasets import polyvore
from recexp.datasets.outfits import UNKNOWN, UNUSED, Outfits
from recexp.datasets.places import Places
from recexp.datasets.prepare import prepare
from recexp.errors import ConfigError, DataError


def opened(cache: Path, data: Path | None = None, **options: Any) -> Outfits:
    node = {"_target_": "recexp.datasets.polyvore.read", "name": "polyvore", "features": "category", **options}
    found = prepare({k: str(v) if isinstance(v, Path) else v for k, v in node.items()}, data=data, cache=cache)
    assert isinstance(found, Outfits)
    return found


def worn(outfits: Outfits, part: str) -> dict[str, list[str]]:
    """Labels of the items of each outfit of a part."""
    return {
        str(outfits.outfit_labels[o]): [
            str(outfits.item_labels[i]) for i in outfits.members[outfits.offsets[o] : outfits.offsets[o + 1]]
        ]
        for o in outfits.part(part)
    }


def vectors_of(names: list[str], width: int = 5) -> dict[str, list[float]]:
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=width).tolist() for name in names}


def words_of(names: list[str], width: int = 7) -> dict[str, list[float]]:
    rng = np.random.default_rng(2)
    return {name: rng.integers(0, 2, width).astype(float).tolist() for name in names}


ALL = labels(TRAIN, TEST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """NGNN's files with vectors beside them."""
    root = tmp_path / "NGNN"
    write_ngnn(root / "data")
    write_vectors(root / "data" / "polyvore_image_vectors", vectors_of(ALL))
    write_vectors(root / "data" / "polyvore_text_mhot", words_of(ALL))
    return root


def test_outfits_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    found = opened(tmp_path / "cache", path=folder, features="all")
    for part, source in (("train", TRAIN), ("test", TEST)):
        assert worn(found, part) == {o: [f"{o}_{i}" for _, i in items] for o, items in source.items()}
    assert worn(found, "val") == {}
    assert found.bounds == (0, 3, 3, 5)
    assert [(c.id, c.name) for c in found.categories] == [(str(c), f"Category {c}") for c in CATEGORIES]
    kind = {f"{o}_{i}": c for part in (TRAIN, TEST) for o, items in part.items() for c, i in items}
    for number, label in enumerate(found.item_labels.tolist()):
        assert CATEGORIES[found.category_of(np.array(number))] == kind[label]
    expected = [label for id in CATEGORIES for label in ALL if kind[label] == id]
    assert found.item_labels.tolist() == expected, "category by category, in the order of the files"
    images, words = vectors_of(ALL), words_of(ALL)
    assert np.array_equal(found.image, np.array([images[label] for label in expected]).astype(np.float16))
    own = [found.words[a:b].tolist() for a, b in zip(found.word_offsets, found.word_offsets[1:], strict=False)]
    assert own == [np.flatnonzero(words[label]).tolist() for label in expected]
    assert found.modalities == {"image": 5, "text": 7}
    assert found.meta.rows_read == 5
    assert found.published is None


def arrays_of(cache: Path) -> dict[str, str]:
    (folder,) = [path for path in (cache / "datasets").iterdir() if path.is_dir()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.npy")}


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("together", [False, True])
def test_packing_changes_no_byte(folder: Path, tmp_path: Path, ending: str, together: bool) -> None:
    reference = opened(tmp_path / "reference", path=folder, features="all")
    data = tmp_path / "data"
    data.mkdir()
    if not together:
        for name in ("polyvore_image_vectors", "polyvore_text_mhot"):
            pack(folder / "data" / name, data / f"{name}.{ending}")
    pack(folder, data / f"polyvore.{ending}")
    found = opened(tmp_path / "cache", data=data, features="all")
    assert found.meta.fingerprint == reference.meta.fingerprint
    assert arrays_of(tmp_path / "cache") == arrays_of(tmp_path / "reference")


@pytest.mark.parametrize("place", ["NGNN/data", "polyvore-ngnn/data", "polyvore", "polyvore/deep/er"])
def test_usual_places(tmp_path: Path, place: str) -> None:
    write_ngnn(tmp_path / "data" / place)
    assert len(opened(tmp_path / "cache", data=tmp_path / "data")) == 5


def test_what_is_prepared_is_taken_and_what_is_damaged_is_built_again(folder: Path, tmp_path: Path) -> None:
    first = opened(tmp_path / "cache", path=folder, features="all")
    (built,) = [path for path in (tmp_path / "cache" / "datasets").iterdir() if path.is_dir()]
    before = (built / "image.npy").stat().st_ino
    assert opened(tmp_path / "cache", path=folder, features="all").meta == first.meta
    assert (built / "image.npy").stat().st_ino == before
    (built / "image.npy").unlink()
    assert opened(tmp_path / "cache", path=folder, features="all").meta == first.meta
    assert (built / "image.npy").exists()
    vector = folder / "data" / "polyvore_image_vectors" / "101_1.json"
    vector.write_text("[1, 2, 3, 4, 5.25]")
    assert opened(tmp_path / "cache", path=folder, features="all").meta.fingerprint != first.meta.fingerprint


def test_one_kind_of_feature(folder: Path, tmp_path: Path) -> None:
    kinds = {
        kind: opened(tmp_path / kind, path=folder, features=kind).modalities for kind in ("image", "text", "category")
    }
    assert kinds == {"image": {"image": 5}, "text": {"text": 7}, "category": {"category": 1}}


def test_category_alone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = opened(tmp_path / "cache", path=write_ngnn(tmp_path / "x"))
    assert found.meta.notes == {"items_known_by_their_category_alone": len(ALL)}
    assert "only its category is known" in caplog.text


def test_vectors_that_are_nowhere(tmp_path: Path) -> None:
    write_ngnn(tmp_path / "x")
    for features, kind in (("all", "image"), ("image", "image"), ("text", "text")):
        with pytest.raises(DataError, match=rf"{kind} vectors of the items are missing.*dataset\.features=category"):
            opened(tmp_path / "cache", path=tmp_path / "x", features=features)


@pytest.mark.parametrize(
    ("policy", "left"),
    [("zero", ["101", "102", "103"]), ("drop", ["102", "103"])],
)
def test_missing_vectors(folder: Path, tmp_path: Path, policy: str, left: list[str]) -> None:
    gone = ["101_3", "102_6"]
    for label in gone:
        (folder / "data" / "polyvore_image_vectors" / f"{label}.json").unlink()
    with pytest.raises(DataError, match=r"2 of 17 items have no image vector: 101_3, 102_6\. "):
        opened(tmp_path / "cache", path=folder, features="image")
    found = opened(tmp_path / "cache", path=folder, features="image", missing=policy)
    assert [*worn(found, "train")] == left
    at = {str(label): number for number, label in enumerate(found.item_labels)}
    images = vectors_of(ALL)
    for label, number in at.items():
        wanted = np.zeros(5) if label in gone else np.array(images[label])
        assert np.array_equal(found.image[number], wanted.astype(np.float16))
    if policy == "drop":
        assert not {*gone, "101_1"} & {*at}
        assert worn(found, "train")["102"] == ["102_1", "102_2", "102_5"]
        assert found.meta.left_out == {"items_without_a_vector": 2, "outfits_of_fewer_than_3_items": 1}
    else:
        assert found.meta.notes == {"items_without_image_vector": 2}


def test_ten_missing_vectors_are_named(folder: Path, tmp_path: Path) -> None:
    for label in ALL[3:]:
        (folder / "data" / "polyvore_text_mhot" / f"{label}.json").unlink()
    named = ", ".join(ALL[3:13])
    with pytest.raises(DataError, match=rf"14 of 17 items have no text vector: {named} and 4 more\. "):
        opened(tmp_path / "cache", path=folder, features="text")


def test_questions_are_those_of_the_files(tmp_path: Path) -> None:
    write_ngnn(tmp_path / "x")
    blanks = [
        (["201_1", "201_3"], ["201_2", "103_2", "101_4", "101_1"], 2),
        (["202_1", "202_2", "202_4"], ["202_5", "101_4", "999_1", "103_2"], 4),
    ]
    outfits = [(1, ["201_1", "201_2", "201_3"]), (0, ["201_1", "998_7"])]
    write_questions(tmp_path / "x" / "xthan", blanks, outfits)
    found = opened(tmp_path / "cache", path=tmp_path / "x")
    at = {str(label): number for number, label in enumerate(found.item_labels)}
    published = found.published
    assert published.context.tolist() == [
        [at["201_1"], at["201_3"], UNUSED], [at["202_1"], at["202_2"], at["202_4"]],
    ]  # fmt: skip
    assert published.position.tolist() == [1, 3]
    assert published.answers.tolist() == [[at.get(label, UNKNOWN) for label in answers] for _, answers, _ in blanks]
    assert published.outfit.tolist() == [[at["201_1"], at["201_2"], at["201_3"]], [at["201_1"], UNKNOWN, UNUSED]]
    assert published.label.tolist() == [1, 0]
    assert {name: count for name, count in found.meta.notes.items() if "items_known_by" not in name} == {
        "published_questions": 2, "published_questions_with_all_items_known": 1,
        "published_questions_with_all_answers_known": 1, "labelled_outfits": 2,
        "labelled_outfits_with_all_items_known": 1,
    }  # fmt: skip
    elsewhere = write_questions(tmp_path / "own", blanks[:1])
    other = opened(tmp_path / "cache", path=tmp_path / "x", questions=elsewhere)
    assert len(other.published.position) == 1
    assert other.meta.fingerprint != found.meta.fingerprint
    with pytest.raises(DataError, match=r"dataset\.questions=.*holds no fill_in_blank_test\.json"):
        opened(tmp_path / "cache", path=tmp_path / "x", questions=write_ngnn(tmp_path / "none"))


RAW_TRAIN = {
    "1": [(17, 1, "red silk dress"), (9, 2, "blue Skirt"), (9, 3, "red skirt"), (46, 4, "red shoe")],
    "2": [(17, 1, "red silk top"), (9, 2, "a a a a a red skirt"), (46, 3, "silk shoe "), (800, 4, "rare red hat")],
    "3": [(46, 2, "red  skirt"), (17, 1, "silk blouse"), (801, 3, "rare skirt"), (9, 5, "silk skirt")],
    "4": [(46, 2, "shoe"), (802, 1, "rare shoe")],
}
RAW_VALID = {"5": [(17, 1, "red unknown"), (9, 2, "silk"), (46, 3, "")]}
RAW_TEST = {"6": [(9, 1, "skirt red red"), (46, 2, "unknown"), (17, 3, "to shoe"), (803, 4, "x")]}


def test_raw_outfits_are_filtered_as_an_obvious_reading_does(tmp_path: Path) -> None:
    write_xthan(tmp_path / "x", RAW_TRAIN, RAW_VALID, RAW_TEST)
    found = opened(tmp_path / "cache", path=tmp_path / "x", min_category_count=3)
    for part, raw in (("train", RAW_TRAIN), ("val", RAW_VALID), ("test", RAW_TEST)):
        expected = {}
        for outfit, items in raw.items():
            first = {}
            for category, index, _ in items:
                if category in {9, 17, 46}:
                    first.setdefault(category, f"{outfit}_{index}")
            if len(first) >= 3:
                expected[outfit] = [*first.values()]
        assert worn(found, part) == expected
    assert [(c.id, c.name) for c in found.categories] == [(str(c), f"Named {c}") for c in (9, 17, 46)]
    assert found.bounds == (0, 3, 4, 5)
    assert found.meta.left_out == {
        "items_of_rare_categories": 4, "items_of_a_category_that_the_outfit_has": 1, "outfits_of_fewer_than_3_items": 1,
    }  # fmt: skip
    assert found.meta.rows_read == 6


@pytest.mark.parametrize("last", [False, True])
def test_words_of_names(tmp_path: Path, last: bool) -> None:
    write_xthan(tmp_path / "x", RAW_TRAIN, RAW_VALID, RAW_TEST)
    options = {"min_category_count": 3, "features": "text", "text_words": "last" if last else "all"}
    found = opened(tmp_path / "cache", path=tmp_path / "x", **options)
    told = {
        f"{o}_{i}": n for part in (RAW_TRAIN, RAW_VALID, RAW_TEST) for o, items in part.items() for _, i, n in items
    }
    counted = [w for items in RAW_TRAIN.values() for *_, n in items for w in n.split(" ") if len(w) >= 3]
    known = sorted({word for word in counted if counted.count(word) >= 5})
    assert known == ["red", "silk", "skirt"]
    assert found.num_words == 3
    for number, label in enumerate(found.item_labels.tolist()):
        words = told[label].split(" ")
        words = words[-1:] if last else words
        expected = sorted({known.index(word) for word in words if word in known})
        assert found.words[found.word_offsets[number] : found.word_offsets[number + 1]].tolist() == expected, label


def test_names_with_filtered_outfits(tmp_path: Path) -> None:
    raw = {o: [(c, i, "green green green green green") for c, i in items] for o, items in TRAIN.items()}
    test = {o: [(c, i, "green") for c, i in items] for o, items in TEST.items()}
    write_xthan(tmp_path / "data" / "polyvore-xthan", raw, {"7": [(9, 1, "x"), (17, 2, "y")]}, test)
    write_ngnn(tmp_path / "data" / "NGNN" / "data")
    found = opened(tmp_path / "cache", data=tmp_path / "data", features="text", text="names")
    assert (found.num_words, len(found.words)) == (1, len(ALL))
    shutil.rmtree(tmp_path / "data" / "polyvore-xthan")
    with pytest.raises(DataError, match=r"dataset\.text=names: .* hold no train_no_dup\.json"):
        opened(tmp_path / "cache", data=tmp_path / "data", features="text", text="names")


def test_auto_prefers_filtered_outfits(tmp_path: Path) -> None:
    write_xthan(tmp_path / "data" / "polyvore", RAW_TRAIN, RAW_VALID, RAW_TEST)
    write_ngnn(tmp_path / "data" / "polyvore-ngnn")
    assert len(opened(tmp_path / "cache", data=tmp_path / "data").categories) == 6
    raw = opened(tmp_path / "cache", data=tmp_path / "data", source="xthan", min_category_count=3)
    assert len(raw.categories) == 3


def test_options_without_effect(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        opened(tmp_path / "cache", path=folder, features="text", min_category_count=7, text_words="last")
    assert "min_category_count=7" in str(told.value)
    assert "text_words=last" in str(told.value)
    write_xthan(tmp_path / "x", RAW_TRAIN, RAW_VALID, RAW_TEST)
    with pytest.raises(ConfigError, match="text_path"):
        opened(tmp_path / "cache", path=tmp_path / "x", features="text", text_path=folder)


def test_nothing_anywhere(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"NGNN's filtered outfits lie in .*github\.com/CRIPAC-DIG"):
        opened(tmp_path / "cache", data=tmp_path / "data", source="ngnn")
    (tmp_path / "data" / "note.txt").write_text("")
    with pytest.raises(DataError, match=r"holds no train_no_dup_new_100\.json or train_no_dup\.json, but note\.txt"):
        opened(tmp_path / "cache", path=tmp_path / "data")
    with pytest.raises(DataError, match=r"dataset\.path=.*there is no such file or folder"):
        opened(tmp_path / "cache", path=tmp_path / "nowhere")
    (tmp_path / "page.zip").write_text("<html>sign in</html>")
    with pytest.raises(DataError, match="is a web page"):
        opened(tmp_path / "cache", path=tmp_path / "page.zip")


def test_the_published_archive_is_fetched_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(write_xthan(tmp_path / "polyvore", RAW_TRAIN, RAW_VALID, RAW_TEST), tmp_path / "polyvore.tar.gz")
    content = archive.read_bytes()
    came = tmp_path / "came.tar.gz"

    def fetched(release: object, places: Places, local: str) -> tuple[Path, str]:
        assert "no folder was named" in local
        came.write_bytes(content)
        return came, "the address"

    monkeypatch.setattr(polyvore, "fetch", fetched)
    with pytest.raises(DataError, match=f"git blob {polyvore.GIT_BLOB}"):
        opened(tmp_path / "cache", min_category_count=3)
    assert not came.exists()
    name = hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()
    monkeypatch.setattr(polyvore, "GIT_BLOB", name)
    found = opened(tmp_path / "cache", min_category_count=3, features="text")
    assert (len(found), found.meta.origin, found.meta.verified) == (5, "the address", True)


def change(folder: Path, name: str, **changes: Any) -> None:
    """Change the second outfit of a file."""
    path = folder / name
    content = json.loads(path.read_text())
    content[1] |= changes
    path.write_text(json.dumps(content))


FAULTS = {
    "one item": ({"items_category": [9], "items_index": [1]}, "too_few_items.*102 has 1 item;"),
    "unknown category": ({"items_category": [9, 7], "items_index": [1, 2]}, "102_2 has the category 7, which cid2rcid"),
    "category twice": ({"items_category": [9, 9], "items_index": [1, 2]}, "two items of the category 9 .102_1 and"),
    "item twice": ({"items_category": [9, 17], "items_index": [1, 1]}, "102 has the item 102_1 twice"),
    "lengths": ({"items_category": [9, 17]}, "items_category has 2 entries and items_index has 4"),
    "set_id twice": ({"set_id": "101"}, "101 is also outfit 1 of train_no_dup_new_100.json"),
    "no set_id": ({"set_id": None}, "set_id is None"),
    "index": ({"items_index": [1, 2, 3, "x"]}, "items_index is 'x' and must be a whole number"),
    "no list": ({"items_index": 7}, "items_category and items_index must be lists"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_and_can_be_left_out(tmp_path: Path, fault: str) -> None:
    changes, told = FAULTS[fault]
    folder = write_ngnn(tmp_path / "x")
    change(folder, "train_no_dup_new_100.json", **changes)
    with pytest.raises(DataError, match=rf"train_no_dup_new_100\.json: 1 row(.|\n)*outfit 2 (.|\n)*{told}"):
        opened(tmp_path / "cache", path=folder)
    found = opened(tmp_path / "cache", path=folder, malformed="skip", malformed_limit=1)
    assert [*worn(found, "train")] == ["101", "103"]
    assert sum(found.meta.malformed.values()) == 1
    with pytest.raises(DataError, match="malformed"):
        opened(tmp_path / "cache", path=folder)


def test_a_test_outfit_of_training(tmp_path: Path) -> None:
    folder = write_ngnn(tmp_path / "x", test={**TEST, "103": [(9, 1), (46, 2), (17, 3)]})
    with pytest.raises(DataError, match=r"test_no_dup_new_100(.|\n)*103 is also outfit 3 of train_no_dup_new_100"):
        opened(tmp_path / "cache", path=folder)


def test_broken_json_is_placed(tmp_path: Path) -> None:
    folder = write_ngnn(tmp_path / "x")
    (folder / "test_no_dup_new_100.json").write_text('[\n {"set_id": "1",,}]')
    with pytest.raises(DataError, match=r"test_no_dup_new_100\.json is not JSON: line 2, column 17"):
        opened(tmp_path / "cache", path=folder)
    (folder / "test_no_dup_new_100.json").unlink()
    with pytest.raises(DataError, match=r"holds train_no_dup_new_100\.json and no test_no_dup_new_100\.json"):
        opened(tmp_path / "cache", path=folder)


VECTOR_FAULTS = {
    "[0.5, 1.5": r"image_vectors/102_5\.json is not JSON: line 1, column",
    "[1, 2, 3]": r"102_5\.json has 3 numbers; others have 5",
    "[1, 2, NaN, 4, 5]": r"102_5\.json: number 3 is nan",
    "[1, 2, 3, -Infinity, 5]": r"102_5\.json: number 4 is -inf",
    "[1, 2, 3, 4, 70000]": r"102_5\.json: number 5 is 70000; .* 65,504",
    '[1, 2, 3, 4, "x"]': r'102_5\.json: entry 5 is "x" and must be a number',
    "[1, 2, 3, 4, true]": r"102_5\.json: entry 5 is true",
    "[1, 2, 3, 4, null]": r"102_5\.json: entry 5 is null",
    "[1, 2, , 4, 5]": r"102_5\.json is not JSON: line 1, column 8",
    "[[1, 2, 3, 4, 5]]": r"102_5\.json: entry 1 is \[1",
    '{"a": 1}': r"102_5\.json must be a list of numbers",
    "": r"102_5\.json is not JSON",
    "[]": r"102_5\.json has 0 numbers",
    "[" + 5000 * "9" + ', 2, 3, 4, "x"]': r"102_5\.json is not JSON: Exceeds the limit",
}


@pytest.mark.parametrize("content", VECTOR_FAULTS)
@pytest.mark.parametrize("packed", [False, True])
def test_faults_of_vectors_are_named(folder: Path, tmp_path: Path, content: str, packed: bool) -> None:
    vectors = folder / "data" / "polyvore_image_vectors"
    (vectors / "102_5.json").write_text(content)
    if packed:
        pack(vectors, folder / "data" / "polyvore_image_vectors.zip")
    with pytest.raises(DataError, match=VECTOR_FAULTS[content].replace("vectors/", r"vectors(.zip, \S*)?/")):
        opened(tmp_path / "cache", path=folder, features="image")


def test_a_word_is_there_or_not(folder: Path, tmp_path: Path) -> None:
    write_vectors(folder / "data" / "polyvore_text_mhot", {"103_3": [0, 0, 0.5, 0, 0, 0, 1]})
    with pytest.raises(DataError, match=r"polyvore_text_mhot/103_3\.json: number 3 is 0\.5; "):
        opened(tmp_path / "cache", path=folder, features="text")


@pytest.mark.parametrize(
    "text", ["[1,2,3,4,5]", "[1, 2,3 ,4,  5]\n", "[\n 1,\n 2,\n 3,\n 4,\n 5\n]", "[1e0,2E0,3.0,4,5]"]
)
def test_json_may_be_laid_out_in_any_way(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / "data" / "polyvore_image_vectors" / "102_5.json").write_text(text)
    found = opened(tmp_path / "cache", path=folder, features="image")
    assert found.image[found.item_labels.tolist().index("102_5")].tolist() == [1, 2, 3, 4, 5]


QUESTION_FAULTS = {
    '[{"question": ["1_1"], "answers": ["1_2", "2_2"], "blank_position": 3}]': "question 1: blank_position is 3; .* 2",
    '[{"question": ["1_1"], "answers": ["1_2", "2_2"], "blank_position": 0}]': "blank_position is 0",
    '[{"question": ["1_1"], "answers": ["1_2"], "blank_position": 1}]': "question 1: answers must be a list of 2",
    '[{"question": [], "answers": ["1_2", "2_2"], "blank_position": 1}]': "question 1: question must be",
    '[{"question": ["11"], "answers": ["1_2", "2_2"], "blank_position": 1}]': "like 119704139_1",
    "[7]": "question 1 must have question",
    "{}": "must be a list of questions",
    "[": "line 1, column 2",
}


@pytest.mark.parametrize("content", QUESTION_FAULTS)
def test_malformed_questions_are_numbered(tmp_path: Path, content: str) -> None:
    write_ngnn(tmp_path / "x")
    (tmp_path / "x" / "fill_in_blank_test.json").write_text(content)
    with pytest.raises(DataError, match=rf"fill_in_blank_test\.json(.|\n)*{QUESTION_FAULTS[content]}"):
        opened(tmp_path / "cache", path=tmp_path / "x")


@pytest.mark.parametrize("line", ["2 1_1 1_2", "1 1_1", "0 1_1 x", "x"])
def test_malformed_labelled_outfits_are_numbered(tmp_path: Path, line: str) -> None:
    write_ngnn(tmp_path / "x")
    (tmp_path / "x" / "fashion-compatibility-prediction.txt").write_text(f"1 1_1 1_2\n\n{line}\n")
    with pytest.raises(DataError, match=r"fashion-compatibility-prediction\.txt, line 3: "):
        opened(tmp_path / "cache", path=tmp_path / "x")


def test_real_outfits(real_data: Path, tmp_path: Path) -> None:
    facts = json.loads((Path(__file__).parents[1] / "golden" / "ngnn.json").read_text())["cases"]
    (expected,) = [case["expected"] for case in facts if case["name"] == "dataset_facts"]
    found = opened(tmp_path / "cache", data=real_data)
    lengths = np.diff(found.offsets)
    train, test = found.part("train"), found.part("test")
    assert len(found.part("val")) == 0
    graph = set()
    for outfit in train:
        graph |= {*permutations(found.category_of(found.members[found.offsets[outfit] : found.offsets[outfit + 1]]), 2)}
    assert expected == {
        "n_categories": len(found.categories),
        "train_outfits": len(train),
        "train_items": int(lengths[train.start : train.stop].sum()),
        "test_outfits": len(test),
        "test_items": int(lengths[test.start : test.stop].sum()),
        "min_len": int(lengths.min()),
        "max_len": int(lengths.max()),
        "directed_train_edges": len(graph),
    }
    assert found.num_items == len({*found.item_labels.tolist()}) == 119_122
    assert found.meta.notes == {
        "published_questions": 3076, "published_questions_with_all_items_known": 776,
        "published_questions_with_all_answers_known": 1159, "labelled_outfits": 7076,
        "labelled_outfits_with_all_items_known": 2714, "items_known_by_their_category_alone": 119_122,
    }  # fmt: skip
    check_real_files(real_data, found)


def check_real_files(real_data: Path, found: Outfits) -> None:
    """Every outfit and every number of a category against plain readings of the files."""
    from recexp.storage.archive import read_member

    archive = real_data / "polyvore.tar.xz"
    numbers = json.loads(read_member(archive, "cid2rcid_100.json"))
    assert [int(numbers[category.id]) for category in found.categories] == [*range(120)]
    for part in ("train", "test"):
        told = json.loads(read_member(archive, f"{part}_no_dup_new_100.json"))
        assert worn(found, part) == {o["set_id"]: [f"{o['set_id']}_{i}" for i in o["items_index"]] for o in told}
        ids = [numbers[str(c)] for o in told for c in o["items_category"]]
        own = found.part(part)
        members = found.members[found.offsets[own.start] : found.offsets[own.stop]]
        assert found.category_of(members).tolist() == ids
    questions = json.loads(read_member(archive, "fill_in_blank_test.json"))
    at = {label: number for number, label in enumerate(found.item_labels.tolist())}
    assert found.published.answers.tolist() == [[at.get(a, UNKNOWN) for a in q["answers"]] for q in questions]
    for row, q in zip(found.published.context.tolist(), questions, strict=True):
        assert [each for each in row if each != UNUSED] == [at.get(label, UNKNOWN) for label in q["question"]]
    for position, q in zip(found.published.position.tolist(), questions, strict=True):
        indices = [int(label.split("_")[1]) for label in q["question"]]
        assert (
            sorted([*indices, int(q["answers"][0].split("_")[1])]).index(int(q["answers"][0].split("_")[1])) == position
        )
