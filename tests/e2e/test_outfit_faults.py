"""What goes wrong around outfits: mistakes in the command, files that are missing, broken or of another shape."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_runs import measured
from in_process import InProcess
from outfit_files import TEST, TRAIN, labels, write_ngnn, write_questions, write_vectors, write_xthan
from small_outfits import FEW, NARROW, SMALL

TRAIN_FILE = "train_no_dup_new_100.json"
IMAGE, TEXT = "polyvore_image_vectors", "polyvore_text_onehot_vectors"


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], InProcess]:
    cache = tmp_path_factory.mktemp("cache")
    return lambda folder: InProcess(folder, cache)


@pytest.fixture
def recexp(in_folder: Callable[[Path], InProcess], tmp_path: Path) -> InProcess:
    return in_folder(tmp_path)


# ---- mistakes in the command

SAYS = {
    "model=ngnn dataset=ml1m": "Datasets for this model: polyvore, polyvore_synthetic.",
    "model=deepfm dataset=polyvore": "Models for this dataset: ngnn.",
    "model=ngnn dataset=polyvore problem=click": "problem=click with model=ngnn: the model does not solve it",
    "model=ngnn dataset=polyvore dataset.features=words": "all, image, text, category",
    "model=ngnn dataset=polyvore dataset.feature=category": "Did you mean dataset.features?",
    "model=ngnn dataset=polyvore dataset.features=category dataset.image_path=x": "needs dataset.features=all or image",
    "model=ngnn dataset=polyvore dataset.features=image dataset.text=names": "it needs dataset.features=all or text",
    "model=ngnn dataset=polyvore dataset.features=category dataset.missing=zero": "=all or image or text",
    "model=ngnn dataset=polyvore dataset.text=files dataset.text_words=last": "dataset.text=null or names",
    "model=ngnn dataset=polyvore dataset.source=ngnn dataset.min_category_count=5": "dataset.source=auto or xthan",
    "model=ngnn dataset=polyvore dataset.malformed_limit=3": "it needs dataset.malformed=skip",
    "model=ngnn dataset=polyvore problem.protocols=[random]": "random_category, same_category, published",
    "model=ngnn dataset=polyvore problem.protocols=[]": "at least one",
    "model=ngnn dataset=polyvore problem.negatives.category=hard": "random, same, mixed, frequency",
    "model=ngnn dataset=polyvore problem.validation_share=0.2": "it needs problem.validate=true",
    "model=ngnn dataset=polyvore trainer.early_stop_patience=3": "it needs problem.validate=true",
    "model=ngnn dataset=polyvore trainer.monitor=val/fitb_random_category": "it needs problem.validate=true",
    "model=ngnn dataset=polyvore model.consistency=none model.consistency_weight=2": "it needs model.consistency=paper",
    "model=ngnn dataset=polyvore model.consistency=reference_bug model.consistency_mean=all": "model.consistency=paper",
    "model=ngnn dataset=polyvore model.beta=1.2": "from 0 to 1",
    "model=ngnn dataset=polyvore model.edges=full": "complete, mean, cooccurrence",
    "model=ngnn dataset=polyvore optim.momentum=0.9": "Set optim.momentum=0, or optim.rows=all",
    "model=ngnn dataset=polyvore task=predict resume=true": "resume",
    "model=ngnn dataset=polyvore task=predict task.top=0": "task.top=0",
    "model=ngnn dataset=polyvore task=train task.top=3": "task.top",
}  # fmt: skip


@pytest.mark.parametrize("words", SAYS)
def test_a_mistake_is_explained(recexp: InProcess, words: str) -> None:
    said = recexp.refused(*words.split(), code=2)
    assert "1 mistake in the configuration" in said
    assert SAYS[words] in said
    assert recexp.runs() == []


def test_all_mistakes_are_told_at_once_before_torch_is_there(tmp_path: Path) -> None:
    words = [
        "dataset.features=words", "dataset.missing=drop_it", "problem.negatives.category=hard", "problem.repeats=0",
        "problem.validation_share=0.2", "model.beta=2", "model.edges=all", "model.hiden_image=3",
    ]  # fmt: skip
    code = "import sys; from recexp.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    for given, mistakes in ((["model=ngnn", "dataset=polyvore", *words], 8), (["model=deepfm", "dataset=polyvore"], 1)):
        done = subprocess.run(
            [sys.executable, "-c", code, *given],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.split() == ["2", "False"]
        assert f"{mistakes} mistake{'s' * (mistakes > 1)} in the configuration" in done.stderr
        for word in words if mistakes > 1 else ():
            assert word.partition("=")[0] in done.stderr


def test_widths_that_are_compared_are_equal(recexp: InProcess) -> None:
    """Whether there are pictures and words shows in the data."""
    said = recexp.refused(*SMALL, "model.hidden_image=5", code=2)
    assert "model.hidden_image=5 and model.hidden_text=4" in said
    assert recexp.runs() == []


def test_a_penalty_needs_all_rows(recexp: InProcess) -> None:
    said = recexp.refused(*SMALL, "model.l2=0.1", code=2)
    assert "model.l2" in said
    assert "optim.rows=all" in said


def test_what_generated_outfits_do_not_have(recexp: InProcess) -> None:
    said = recexp.refused(*SMALL, "dataset.path=x", code=2)
    assert "outfits are generated; dataset=polyvore reads yours" in said
    said = recexp.refused(*SMALL, "dataset.styles=20", code=2)
    assert "dataset.items_per_category=12: at least" in said
    assert "dataset.num_words=30: at least" in said


# ---- files

Spoil = Callable[[Path], object]


def files(folder: Path, *, vectors: bool = True) -> Path:
    """NGNN's files with vectors of width 4 and words of 5."""
    write_ngnn(folder)
    if vectors:
        own = labels(TRAIN, TEST)
        write_vectors(folder / IMAGE, {name: [at / 8, 1.0, 0.0, 2.0] for at, name in enumerate(own)})
        write_vectors(folder / TEXT, {name: [at % 2, 1, 0, 0, (at // 2) % 2] for at, name in enumerate(own)})
    return folder


def words(folder: Path) -> list[str]:
    return [*NARROW, "dataset=polyvore", f"dataset.path={folder}", *FEW]


def rewritten(name: str, change: Callable[[list[Any]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / name).read_text())
        change(told)
        (folder / name).write_text(json.dumps(told))

    return spoil


def one_item(told: list[dict[str, Any]]) -> None:
    told[1] = {key: value if key == "set_id" else value[:1] for key, value in told[1].items()}


FAULTS: Mapping[str, tuple[Spoil, str, str]] = {
    "corrupt JSON": (
        lambda f: (f / TRAIN_FILE).write_text((f / TRAIN_FILE).read_text()[:-40]), TRAIN_FILE, "line 1, column",
    ),
    "an outfit of one item": (rewritten(TRAIN_FILE, one_item), "102", "an outfit has two"),
    "an unknown category": (
        rewritten(TRAIN_FILE, lambda told: told[0]["items_category"].__setitem__(1, 777)), "101", "777",
    ),
    "a missing picture": (lambda f: (f / IMAGE / "102_5.json").unlink(), "102_5", "dataset.missing=zero"),
    "missing words": (lambda f: (f / TEXT / "202_4.json").unlink(), "202_4", "dataset.missing=zero"),
    "a picture of another width": (
        lambda f: (f / IMAGE / "103_8.json").write_text("[1, 2, 3]"), "103_8.json", "3 numbers",
    ),
    "words of another width": (
        lambda f: (f / TEXT / "103_8.json").write_text("[1, 0, 0, 0, 0, 1]"), "103_8.json", "6 numbers",
    ),
    "NaN": (lambda f: (f / IMAGE / "103_8.json").write_text("[1, NaN, 2, 3]"), "103_8.json", "number 2 is nan"),
    "a picture that is no JSON": (lambda f: (f / IMAGE / "103_8.json").write_text("[1, 2,"), "103_8.json", ""),
    "a word of two": (lambda f: (f / TEXT / "103_8.json").write_text("[2, 0, 0, 0, 0]"), "103_8.json", "2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_file_is_named_and_nothing_is_left(tmp_path: Path, fault: str) -> None:
    spoil, where, what = FAULTS[fault]
    folder = files(tmp_path / "outfits")
    spoil(folder)
    recexp = InProcess(tmp_path / "runs", tmp_path / "cache")
    said = recexp.refused(*words(folder), code=1)
    assert where in said
    assert what in said
    assert recexp.runs() == []
    assert not list((tmp_path / "cache").rglob("meta.json"))


def test_the_files_without_a_fault_train(recexp: InProcess) -> None:
    folder = files(recexp.folder / "outfits")
    recexp.run(*words(folder))
    recexp.run(*words(folder), "dataset.features=text")
    recexp.run(*words(folder), "dataset.features=image")
    recexp.run(*words(folder), "dataset.features=category")
    assert len(recexp.runs()) == 4
    assert all("test/fitb_same_category" in measured(run) for run in recexp.runs())


def test_items_without_vectors_are_zeros_or_left_out_on_request(recexp: InProcess) -> None:
    folder = files(recexp.folder / "outfits")
    (folder / IMAGE / "102_5.json").unlink()
    prepared = [recexp.run("task=prepare", *words(folder), f"dataset.missing={how}").out for how in ("zero", "drop")]
    items = [line.split()[1] for out in prepared for line in out.splitlines() if line.startswith("  items  ")]
    assert items == ["17", "16"]
    recexp.run(*words(folder), "dataset.missing=zero")
    recexp.run(*words(folder), "dataset.missing=drop")
    assert len({run.parent for run in recexp.runs()}) == 2


def test_a_malformed_outfit_is_left_out_on_request(recexp: InProcess) -> None:
    folder = files(recexp.folder / "outfits")
    rewritten(TRAIN_FILE, one_item)(folder)
    done = recexp.run("task=prepare", *words(folder), "dataset.malformed=skip")
    assert [line.split() for line in done.out.splitlines() if " malformed " in line] == [
        ["malformed", "too_few_items", "1"]
    ]
    assert recexp.run(*words(folder), "dataset.malformed=skip").tests


def test_without_vectors_it_is_said_how_to_go_on(recexp: InProcess) -> None:
    folder = files(recexp.folder / "outfits", vectors=False)
    said = recexp.refused(*words(folder), code=1)
    for part in ("image vectors of the items are missing", "dataset.image_path=PATH", "dataset.features=category"):
        assert part in said
    assert recexp.run(*words(folder), "dataset.features=category").tests


def test_places_that_do_not_exist_are_named(recexp: InProcess) -> None:
    folder = files(recexp.folder / "outfits")
    nowhere = recexp.folder / "nowhere"
    for option in ("path", "image_path", "text_path", "questions"):
        given = [word for word in words(folder) if option != "path" or not word.startswith("dataset.path")]
        said = recexp.refused(*given, f"dataset.{option}={nowhere}", code=1)
        assert f"dataset.{option}={nowhere}" in said
    (recexp.folder / "empty").mkdir()
    said = recexp.refused(*NARROW, "dataset=polyvore", f"dataset.path={recexp.folder / 'empty'}", code=1)
    assert "it holds no" in said
    assert TRAIN_FILE in said


def test_questions_about_nothing_known_are_left_to_chance(recexp: InProcess) -> None:
    """Half of the answers of the first are items of this data, none of the second's."""
    folder = files(recexp.folder / "outfits")
    blanks = [
        (["201_1", "201_2"], ["201_3", "9_9", "9_8", "101_1"], 3),
        (["9_1", "9_2"], ["9_3", "9_4", "9_5", "9_6"], 1),
    ]
    write_questions(folder, blanks, [(1, ["201_1", "201_2", "201_3"]), (0, ["101_1", "102_2"])])
    recexp.run(*words(folder), "problem.protocols=[published]")
    (run,) = recexp.runs()
    assert measured(run)["test/fitb_published"] == 0.25


NAMES = ("red wool coat", "blue wool hat", "red silk scarf", "blue silk dress")


@pytest.mark.slow
def test_raw_outfits_with_the_items_names(recexp: InProcess) -> None:
    def made(first: int, count: int) -> dict[str, list[tuple[int, int, str]]]:
        return {str(first + n): [(c, c + 1, NAMES[(n + c) % 4]) for c in range(5) if (n + c) % 6] for n in range(count)}

    folder = write_xthan(recexp.folder / "raw", made(100, 30), made(200, 6), made(300, 8))
    given = [*words(folder), "dataset.source=xthan", "dataset.features=text", "dataset.min_category_count=2"]
    recexp.run(*given)
    recexp.run(*given, "dataset.text_words=last")
    recexp.run(*given, "problem.validate=true", "trainer.max_steps=null", "trainer.max_epochs=3")
    assert len({run.parent for run in recexp.runs()}) == 3
    out = recexp.run("task=prepare", *given).out
    assert "train 30, val 6, test 8" in out
    assert "text 8" in out
    said = recexp.refused(*given, "dataset.min_category_count=1000", code=1)
    assert "1000" in said or "1,000" in said or "no outfit" in said
