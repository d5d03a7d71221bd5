"""``task=predict`` on a user's own outfits, as whole commands: scores, completions, files, mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess
from small_outfits import SMALL, DenseRun, Piece, prepared

from recexp.datasets.outfits import Outfits
from recexp.storage import atomic

Sent = dict[str, Any]


class Trained:
    """A trained network, its data, and the same network in another form."""

    def __init__(self, recexp: InProcess, cache: Path) -> None:
        self.recexp = recexp
        recexp.run(*SMALL, "trainer.max_steps=30", "optim.lr=0.02")
        (self.run,) = recexp.runs()
        self.data: Outfits = prepared(cache)
        self.dense = DenseRun(self.run, self.data)

    def label(self, item: int) -> str:
        return str(self.data.item_labels[item])

    def outfit(self, number: int) -> list[int]:
        return [int(item) for item in self.data.members[self.data.offsets[number] : self.data.offsets[number + 1]]]

    def of_dataset(self, items: list[int]) -> list[Sent]:
        return [{"item": self.label(item)} for item in items]

    def pieces(self, items: list[int]) -> list[Piece]:
        return [Piece.of(self.data, item) for item in items]

    def described(self, piece: Piece) -> Sent:
        """As an item of one's own; even categories by id, odd ones by name."""
        category = self.data.categories[piece.category]
        shown = category.id if piece.category % 2 == 0 else category.name
        return {"category": shown, "image": [*piece.image], "words": [*piece.words]}

    def ask(self, sent: Any, *words: str, code: int = 0) -> list[Sent]:
        path = self.recexp.folder / "sent.json"
        path.write_text(json.dumps(sent))
        done = self.recexp.run("task=predict", f"ckpt={self.run}", f"task.input={path}", *words, code=code)
        return [json.loads(line) for line in done.out.splitlines()]

    def refused(self, text: str, *words: str) -> str:
        path = self.recexp.folder / "sent.json"
        path.write_text(text)
        return self.recexp.refused("task=predict", f"ckpt={self.run}", f"task.input={path}", *words, code=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, cache = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("cache")
    return Trained(InProcess(folder, cache), cache)


def test_scores_are_those_of_the_dense_form(trained: Trained) -> None:
    """Outfits of the dataset, of items of one's own, and of both, all in one request."""
    numbers = [0, 7, 61, 66, 70]
    known = [trained.outfit(number) for number in numbers]
    own = [trained.pieces(items) for items in known]
    stranger = Piece(own[0][0].category, [1.5, 0.0, 2.25, 0.5, 0.0, 1.0], [3, 11])
    mixed = [trained.described(stranger), *trained.of_dataset(known[0][1:])]
    sent = [
        *({"id": f"d{n}", "items": trained.of_dataset(items)} for n, items in zip(numbers, known, strict=True)),
        *({"id": f"o{n}", "items": [*map(trained.described, row)]} for n, row in zip(numbers, own, strict=True)),
        {"id": "mixed", "items": mixed},
    ]
    expected = [trained.dense.scores(row) for row in [*own, *own, [stranger, *own[0][1:]]]]
    found = trained.ask(sent)
    assert [one["id"] for one in found] == [one["id"] for one in sent]
    for one, wanted in zip(found, expected, strict=True):
        assert {**one["scores"], "score": one["score"]} == pytest.approx(wanted, rel=1e-4, abs=1e-6), one["id"]
    assert len({round(one["score"], 5) for one in found}) == 6, "nothing to tell apart"
    real = [trained.dense.scores(trained.pieces(trained.outfit(n)))["score"] for n in trained.data.part("test")]
    for one in found[5:]:
        below = sum(score < one["score"] - 1e-6 for score in real) / len(real)
        above = sum(score < one["score"] + 1e-6 for score in real) / len(real)
        assert below <= one["above_real_outfits"] <= above


def test_what_completes_an_outfit_is_the_best_of_all_training_items(trained: Trained) -> None:
    begun = trained.pieces(trained.outfit(3)[:3])
    taken = {piece.category for piece in begun}
    wanted = [c for c in range(len(trained.data.categories)) if c not in taken][:2]
    names = [trained.data.categories[wanted[0]].name, trained.data.categories[wanted[1]].id]
    items = [trained.described(piece) for piece in begun]
    (one,) = trained.ask([{"items": items, "complete": names}], "task.top=5")
    candidates = {item for number in trained.data.part("train") for item in trained.outfit(number)}
    scored = {
        item: trained.dense.scores([*begun, Piece.of(trained.data, item)])["score"]
        for item in sorted(candidates)
        if Piece.of(trained.data, item).category in wanted
    }
    best = sorted(scored, key=scored.__getitem__, reverse=True)[:5]
    assert [found["item"] for found in one["complete"]] == [trained.label(item) for item in best]
    assert [found["score"] for found in one["complete"]] == pytest.approx([scored[i] for i in best], rel=1e-4, abs=1e-6)
    (everything,) = trained.ask([{"items": items, "complete": True}], "task.top=100000")
    assert len(everything["complete"]) == len(
        [item for item in candidates if Piece.of(trained.data, item).category not in taken]
    )


def test_the_run_is_named_or_found_by_its_words(trained: Trained) -> None:
    sent = [{"items": trained.of_dataset(trained.outfit(5))}]
    expected = trained.ask(sent)
    path = trained.recexp.folder / "sent.json"
    words = [*SMALL, "trainer.max_steps=30", "optim.lr=0.02", "task=predict", f"task.input={path}"]
    checkpoint = trained.run / "checkpoints" / "last.ckpt"
    for named in ([*words, "ckpt=best"], [*words, "ckpt=last"], [*words[-2:], f"ckpt={checkpoint}"]):
        done = trained.recexp.run(*named)
        assert [json.loads(line) for line in done.out.splitlines()] == expected
        assert "answered 1 request" in done.err
    said = trained.recexp.refused(*words, "ckpt=best", "seed=77", code=2)
    assert "no run of this configuration" in said


def test_lines_of_standard_input_and_a_file_of_answers(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [{"id": number, "items": trained.of_dataset(trained.outfit(number))} for number in (1, 2)]
    expected = trained.ask(sent)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(one) + "\n" for one in sent)))
    path = trained.recexp.folder / "answers.jsonl"
    done = trained.recexp.run("task=predict", f"ckpt={trained.run}", f"task.output={path}")
    assert done.out == ""
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == expected


def test_a_file_of_answers_is_whole_or_as_it_was(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trained.recexp.folder / "kept.jsonl"
    path.write_text("as it was\n")
    beside = {*trained.recexp.folder.iterdir()}
    said = trained.refused('[{"items": [{"item": "nothing"}, {"item": "such"}]}]', f"task.output={path}")
    assert "is not in the dataset" in said

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", refuse)
    sent = json.dumps([{"items": trained.of_dataset(trained.outfit(5))}])
    assert "no space left for" in trained.refused(sent, f"task.output={path}")
    assert path.read_text() == "as it was\n"
    assert {*trained.recexp.folder.iterdir()} - beside <= {trained.recexp.folder / "sent.json"}


def good(trained: Trained) -> list[Sent]:
    return [trained.described(piece) for piece in trained.pieces(trained.outfit(0))]


def changed(trained: Trained, **of_item: Any) -> str:
    first, *others = good(trained)
    item = {key: value for key, value in {**first, **of_item}.items() if value is not None}
    return json.dumps([{"id": "mine", "items": [item, *others]}])


FAULTS: dict[str, tuple[Callable[[Trained], str], str]] = {
    "corrupt JSON": (lambda t: changed(t)[:-20], "this is not JSON"),
    "an outfit of one item": (
        lambda t: json.dumps([{"id": "mine", "items": good(t)[:1]}]),
        "outfit mine: has 1 item: an outfit has two or more",
    ),
    "an unknown category": (lambda t: changed(t, category="categry 3"), "Did you mean category 3?"),
    "no category": (lambda t: changed(t, category=None), "item 1: no category is given"),
    "a missing vector": (lambda t: changed(t, image=None), "item 1: has no image, a vector of 6 numbers"),
    "missing words": (lambda t: changed(t, words=None), "item 1: has no words, a list of numbers below 30"),
    "a vector of the wrong width": (lambda t: changed(t, image=[1.0] * 5), "image has 5 numbers; the model takes a"),
    "no number": (lambda t: changed(t, image=[1, 2, 3, 4, 5, "6"]), "image holds '6'"),
    "NaN": (lambda t: changed(t, image=[1, 2, 3, 4, 5, float("nan")]), "image holds nan"),
    "a word too many": (lambda t: changed(t, words=[30]), "words holds 30; expected whole numbers from 0 to 29"),
    "an unknown item": (
        lambda t: json.dumps([{"items": [*t.of_dataset(t.outfit(0)[:1]), {"item": "1000_99999"}]}]),
        "item '1000_99999' is not in the dataset polyvore_synthetic",
    ),
    "a key": (lambda t: changed(t, picture=[1]), "unknown key 'picture'"),
    "two of a category": (lambda t: json.dumps([{"items": [*good(t), good(t)[0]]}]), "has two items of category"),
    "nothing": (lambda t: "", "is empty"),
    "an empty list": (lambda t: "[]", "holds no request"),
    "a number": (lambda t: "[3]", "outfit 1: is 3; expected an object with items"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_is_written(trained: Trained, fault: str) -> None:
    make, says = FAULTS[fault]
    answers = trained.recexp.folder / "never.jsonl"
    assert says in trained.refused(make(trained), f"task.output={answers}")
    assert not answers.exists()


def test_all_faults_are_told_at_once(trained: Trained) -> None:
    first, second, *others = good(trained)
    sent = [{"items": [{**first, "image": [1]}, {**second, "words": [-1]}, *others]}, {"items": others[:1]}]
    said = trained.refused(json.dumps(sent))
    for part in ("outfit 1, item 1: image has 1", "outfit 1, item 2: words holds -1", "outfit 2: has 1 item"):
        assert part in said


def test_a_missing_vector_may_be_zeros(trained: Trained) -> None:
    row = trained.pieces(trained.outfit(0))
    sent = [*map(trained.described, row)]
    del sent[0]["image"], sent[1]["words"]
    (one,) = trained.ask([{"items": sent}], "task.missing=zero")
    row[0] = Piece(row[0].category, [0.0] * 6, row[0].words)
    row[1] = Piece(row[1].category, row[1].image, [])
    assert one["score"] == pytest.approx(trained.dense.scores(row)["score"], rel=1e-4, abs=1e-6)


def test_a_file_or_a_run_that_is_not_there_is_named(trained: Trained) -> None:
    recexp = trained.recexp
    said = recexp.refused("task=predict", f"ckpt={trained.run}", "task.input=nowhere.json", code=1)
    assert "task.input=nowhere.json: No such file" in said
    path = recexp.folder / "sent.json"
    path.write_text(json.dumps([{"items": good(trained)}]))
    assert "nowhere" in recexp.refused("task=predict", f"task.input={path}", "ckpt=nowhere", code=2)
    given = ["task=predict", f"ckpt={trained.run}", f"task.input={path}"]
    said = recexp.refused(*given, f"task.output={recexp.folder}/nowhere/answers.jsonl", code=1)
    assert "there is no folder" in said


def test_a_problem_without_requests_says_so(trained: Trained) -> None:
    words = ["model=attrec", "dataset=ml1m_synthetic", "dataset.users=60", "dataset.items=90", "model.dim=4"]
    words += ["dataset.events_per_user=20"]
    trained.recexp.run(*words, "trainer.max_steps=2")
    path = trained.recexp.folder / "sent.json"
    path.write_text(json.dumps([{"items": good(trained)}]))
    said = trained.recexp.refused("task=predict", *words, "trainer.max_steps=2", f"task.input={path}", code=2)
    assert "problem=next_item takes no requests" in said
