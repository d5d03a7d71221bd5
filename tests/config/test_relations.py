"""Options that depend on each other: illegal pairs, options without effect, and mistakes in what a file declares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recexp.config import conditions, relations, schema
from recexp.config.compose import compose, compose_all
from recexp.config.findings import Findings
from recexp.config.relations import Need
from recexp.errors import ConfigError

MODEL = """
# @package _global_
# help: options that depend on each other
defaults:
  - /problem: rank
  - _self_
model:
  {name: tied, problems: [rank], _target_: recexp.errors.DataError, loss: entropy, act: null, acts: [tanh], logq: 1.0,
   train: step, steps: 20, samples: 8, power: 0.5, shown: off, tint: 3}
trainer: {max_epochs: 1}
_schema_:
  model:
    loss: {type: str, choices: [entropy, bpr], help: loss}
    act:
      type: str
      nullable: true
      choices: [softmax, tanh, relu]
      legal_with: {loss: {entropy: [softmax], bpr: [tanh, relu]}}
      help: act
    acts: {type: "list[str]", choices: [tanh, relu], legal_with: {loss: {bpr: [relu]}}, help: acts}
    logq: {type: float, min: 0, only_with: {loss: [entropy]}, help: correction}
    train: {type: str, choices: [step, window], help: how}
    steps:
      type: int
      min: 1
      only_with: {train: [window], samples: {above: 0}}
      otherwise: "say how otherwise"
      help: window
    samples: {type: int, min: 0, help: samples}
    power: {type: float, min: 0, only_with: {samples: {above: 0}}, help: their power}
    shown: {type: str, choices: ["off", "on"], help: switch}
    tint: {type: int, only_with: {shown: [on]}, help: colour}
"""


@pytest.fixture(scope="module")
def tied(shared_house: Path) -> Iterator[None]:
    """The shared small house with a model of such options."""
    (shared_house / "conf/model/tied.yaml").write_text(MODEL.lstrip(), encoding="utf-8")
    (shared_house / "experiments/tied.yaml").write_text("model: {logq: 0.5}\n", encoding="utf-8")
    yield
    (shared_house / "conf/model/tied.yaml").unlink()
    (shared_house / "experiments/tied.yaml").unlink()


pytestmark = pytest.mark.usefixtures("tied", "house")


def mistakes(words: str, *, multirun: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_all(["model=tied", *words.split()], multirun=multirun)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "model.act=softmax model.loss=bpr model.acts=[]",
            "model.act=softmax with model.loss=bpr: cannot work. With bpr: tanh, relu, or null.",
        ),
        ("model.act=tanh", "model.act=tanh with model.loss=entropy: cannot work. With entropy: softmax, or null."),
        (
            "model.acts=[relu,tanh] model.loss=bpr",
            "model.acts=[relu,tanh] with model.loss=bpr: cannot work. With bpr: relu.",
        ),
        (
            "model.logq=0.5 model.acts=[relu] model.loss=bpr",
            "model.logq=0.5 has no effect with model.loss=bpr: it needs model.loss=entropy.",
        ),
        ("model.logq=1 model.acts=[relu] model.loss=bpr", "model.logq=1.0 has no effect with model.loss=bpr"),
        ("model.steps=20", "model.steps=20 has no effect with model.train=step: say how otherwise."),
        ("model.steps=3 model.train=window model.samples=0", "has no effect with model.samples=0: say how otherwise."),
        (
            "model.power=1 model.samples=0",
            "model.power=1.0 has no effect with model.samples=0: it needs model.samples above 0.",
        ),
        ("model.tint=3", "model.tint=3 has no effect with model.shown=off: it needs model.shown=on."),
        ("experiment=tied model.loss=bpr model.acts=[]", "model.logq=0.5 has no effect with model.loss=bpr"),
    ],
)
def test_refused(words: str, says: str) -> None:
    (found,) = mistakes(words)
    assert says in found


@pytest.mark.parametrize(
    "words",
    [
        "",
        "model.loss=bpr model.acts=[relu]",  # the file's logq is simply not used
        "model.loss=bpr model.acts=[relu] model.act=tanh",
        "model.loss=bpr model.acts=[]",
        "model.act=softmax",
        "model.act=null",
        "model.samples=0",
        "model.train=window model.steps=3",
        "model.power=0 model.samples=1",
        "model.shown=on model.tint=4",
        "experiment=tied",
    ],
)
def test_taken(words: str) -> None:
    assert compose(["model=tied", *words.split()])["model"]["name"] == "tied"


def test_all_at_once_and_for_every_job() -> None:
    found = mistakes("model.loss=bpr model.act=softmax model.logq=2 model.steps=2 optim.lrr=1")
    assert [text.split(" ")[0] for text in found] == [
        "optim.lrr=1:", "model.act=softmax", "model.acts=[tanh]", "model.logq=2.0", "model.steps=2",
    ]  # fmt: skip
    assert len(mistakes("model.act=softmax,tanh", multirun=True)) == 1


def test_silent_where_its_keys_are_wrong_already() -> None:
    assert len(mistakes("model.loss=bprr model.act=tanh model.logq=2")) == 1
    assert len(mistakes("model.loss=bpr model.acts=[relu] model.act=tahn")) == 1


@given(
    loss=st.sampled_from(["entropy", "bpr"]),
    act=st.sampled_from([None, "softmax", "tanh", "relu"]),
    logq=st.sampled_from([1.0, 0.5]),
    samples=st.integers(0, 2),
    power=st.sampled_from([0.5, 1.0]),
    said=st.sets(st.sampled_from(["model.logq", "model.power"])),
)
def test_against_brute_force(
    loss: str, act: str | None, logq: float, samples: int, power: float, said: set[str]
) -> None:
    own = yaml.safe_load(MODEL)
    options = schema.parse(own["_schema_"], "", "x.yaml")
    values = {"loss": loss, "act": act, "logq": logq, "samples": samples, "power": power}
    config = {"model": {**own["model"], "acts": [], **values}, "problem": {"name": "rank"}}
    legal = {("entropy", "softmax"), ("bpr", "tanh"), ("bpr", "relu")}
    expected = int(act is not None and (loss, act) not in legal)
    expected += int(loss != "entropy" and (logq != 1.0 or "model.logq" in said))
    expected += int(samples == 0 and (power != 0.5 or "model.power" in said))
    assert len(conditions.broken(config, options, frozenset(said), Findings())) == expected


OPTION: dict[str, Any] = {"type": "str", "choices": ["a", "b"]}


@pytest.mark.parametrize(
    "attributes",
    [
        {"legal_with": [1]},
        {"legal_with": {}},
        {"legal_with": {"y": ["a"]}},
        {"legal_with": {"y": {"a": "a"}}},
        {"legal_with": {"y": {"a": []}}},
        {"only_with": {"y": "a"}},
        {"only_with": {"y": []}},
        {"only_with": {"y": {"over": 0}}},
        {"only_with": {"y": {"above": "0"}}},
        {"only_with": {"y": {"above": True}}},
        {"only_with": {"y": ">0"}},
        {"needed_by": {"a": "y"}},
        {"needed_by": [1]},
        {"aliases": {"z": "inverse"}},
        {"aliases": {"m.z": "same"}},
        {"aliases": ["z"]},
        {"otherwise": "x"},
        {"otherwise": 3, "only_with": {"y": ["a"]}},
    ],
)
def test_malformed_relations_name_their_file_and_an_example(attributes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml: _schema_: model\.x: .*Write ") as caught:
        schema.parse({"x": {**OPTION, **attributes}}, "model.", "x.yaml")
    example = caught.value.problems[0].rpartition("Write ")[2].rstrip(".")
    assert example in relations.EXAMPLES.values()


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"legal_with": {"z": {"a": ["a"]}}}, "no option or fact model.z"),
        ({"legal_with": {"y": {"c": ["a"]}}}, "legal_with: model.y: 'c' is not one of a, b"),
        ({"legal_with": {"y": {"a": ["c"]}}}, "'c' is not one of a, b"),
        ({"only_with": {"optim.lrr": [1]}}, "no option or fact optim.lrr"),
        ({"only_with": {"y": ["c"]}}, "'c' is not one of a, b"),
        ({"only_with": {"y": {"above": 0}}}, "model.y is no number"),
        ({"needed_by": {"c": ["y"]}}, "'c' is not one of a, b"),
        ({"needed_by": {"a": ["trainer.monitr"]}}, "no option trainer.monitr"),
        ({"aliases": {"y": "same"}}, "model.y is a key of its own"),
        ({"aliases": {"feed": "same"}}, "model.feed is a key of its own"),
        ({"aliases": {"other": "same"}}, "model.other is a key of its own"),
        ({"aliases": {"keep": "complement"}}, "only a number has a complement"),
        ({"legal_with": {"y": {"a": ["b"]}}, "only_with": {"model.feed": ["any"]}, "aliases": {"z": "same"}}, None),
        ({"needed_by": {"a": ["y", "optim.lr"], "b": ["y"]}}, None),
    ],
)
def test_mistakes_of_a_declaration(attributes: dict[str, Any], says: str | None) -> None:
    block = {"x": {**OPTION, **attributes}, "y": {**OPTION, "aliases": {"other": "same"}}}
    options = {**schema.core(), **schema.parse(block, "model.", "x.yaml")}
    found = conditions.mistakes(options, {"model.feed"})
    assert found == [] if says is None else len(found) >= 1 and all(says in text for text in found)


def test_a_section_states_it_for_all_below() -> None:
    block = {
        "draws": {
            "only_with": {"model.feed": ["windows"]},
            "otherwise": "no",
            "count": {"type": "int"},
            "more": {"share": {"type": "float", "otherwise": "never"}},
        },
        "only_with": {"type": "bool"},
    }
    options = schema.parse(block, "problem.", "x.yaml")
    need = {"model.feed": Need(values=("windows",))}
    assert set(options) == {"problem.draws.count", "problem.draws.more.share", "problem.only_with"}
    assert options["problem.draws.count"] == schema.Option("int", only_with=need, otherwise="no")
    assert options["problem.draws.more.share"] == schema.Option("float", only_with=need, otherwise="never")


def test_in_words() -> None:
    options = schema.parse(yaml.safe_load(MODEL)["_schema_"], "", "x.yaml")
    said = {key: conditions.described(key, option) for key, option in options.items()}
    assert said["model.act"] == "; with loss=entropy: softmax; with loss=bpr: tanh, relu"
    assert said["model.steps"] == "; only with train=window; only with samples above 0"
    assert said["model.loss"] == ""
    more = {
        "legal_with": {"y": {"a": ["a"], "b": ["a"]}, "trainer.kernels": {"plain": ["b"]}},
        "needed_by": {"a": ["y", "optim.lr"]},
    }
    (option,) = schema.parse({"x": {**OPTION, **more}}, "model.", "x.yaml").values()
    assert conditions.described("model.x", option) == (
        "; with y=a or b: a; with trainer.kernels=plain: b; without model.x=a there is no model.y, optim.lr"
    )
    assert Need(values=(True, None, "x")).said("a") == "a=true or null or x"
