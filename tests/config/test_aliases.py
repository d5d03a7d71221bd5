"""Other names of options: what is written under one is the option's own value, and its own identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st

from recexp import cli
from recexp.config import aliases, help, reference, schema, surface, targets, words
from recexp.config.compose import compose, compose_all, loader
from recexp.config.identity import identity
from recexp.config.relations import Alias
from recexp.errors import ConfigError

Writer = Callable[[Path, dict[str, str]], None]

FILES = {
    "conf/model/named.yaml": """
# @package _global_
# help: options with other names
defaults:
  - /problem: rank
  - _self_
model:
  {name: named, problems: [rank], _target_: recexp.errors.DataError, drop: 0.5, low: null, width: 8, part: {rate: 0.25}}
trainer: {max_epochs: 1}
_schema_:
  model:
    drop: {type: float, min: 0, max: 1, aliases: {keep: complement, dropout: same}, help: dropped}
    low: {type: float, min: 0, max: 0.25, nullable: true, aliases: {high: complement}, help: low}
    width: {type: int, min: 1, aliases: {rnn_size: same}, help: width}
    part: {rate: {type: float, aliases: {stay: complement}, help: below}}
""",
    "conf/model/other.yaml": """
# @package _global_
# help: the same name for something else
defaults:
  - /problem: rank
  - _self_
model: {name: other, problems: [rank], _target_: recexp.errors.DataError, loss: 0.5}
trainer: {max_epochs: 1}
_schema_: {model: {loss: {type: float, aliases: {high: complement}, help: lost}}}
""",
    "experiments/kept.yaml": "defaults: [override /model: named]\nmodel: {keep: 0.9, rnn_size: 3}\n",
    "experiments/later.yaml": "defaults: [kept, _self_]\nmodel: {drop: 0.125}\n",
    "experiments/again.yaml": "defaults: [later, _self_]\nmodel: {keep: 0.7}\n",
    "experiments/twice.yaml": "defaults: [override /model: named]\nmodel: {keep: 0.9, drop: 0.2}\n",
    "experiments/far.yaml": "defaults: [override /model: named]\nmodel: {keep: 1.5}\n",
    "experiments/swept.yaml": "defaults: [override /model: named]\n"
    "hydra: {sweeper: {params: {model.keep: '0.5,0.8'}}}\n",
}


@pytest.fixture(scope="module")
def named(shared_house: Path) -> Iterator[None]:
    """The shared small house with models that have such options."""
    for name, text in FILES.items():
        (shared_house / name).write_text(text.lstrip(), encoding="utf-8")
    yield
    for name in FILES:
        (shared_house / name).unlink()


pytestmark = pytest.mark.usefixtures("named", "house")


def mistakes(text: str, *, multirun: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_all(text.split(), multirun=multirun)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("model.keep=0.6", "model.drop=0.4"),
        ("model.keep=0.9", "model.drop=0.1"),
        ("model.keep=1", "model.drop=0"),
        ("model.keep=0", "model.drop=1"),
        ("model.keep=6e-1", "model.drop=0.4"),
        ("++model.keep=0.6", "model.drop=0.4"),
        ("model.keep=0.3 model.keep=0.6", "model.drop=0.4"),
        ("model.dropout=0.4", "model.drop=0.4"),
        ("model.rnn_size=3", "model.width=3"),
        ("model.high=null", "model.low=null"),
        ("model.high=0.8", "model.low=0.2"),
        ("model.part.stay=0.9", "model.part.rate=0.1"),
        ("model.dropout=${model.part.rate}", "model.drop=0.25"),
    ],
)
def test_stands_for_the_option(text: str, own: str) -> None:
    one, two = compose(["model=named", *text.split()]), compose(["model=named", own])
    assert one == two
    assert identity(one, "f") == identity(two, "f")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model.keep=1.5", "model.keep=1.5: 1.5 is out of range; legal is a number from 0 to 1."),
        ("model.high=0.5", "model.high=0.5: 0.5 is out of range; legal is a number from 0.75 to 1, or null."),
        ("model.keep=x", "model.keep=x: 'x' is not a number from 0 to 1."),
        ("model.keep=null", "null is not allowed"),
        ("model.keep=${seed}", "'${seed}' is not a number"),
        ("model.rnn_size=0", "model.rnn_size=0: 0 is out of range"),
        ("model.keep=0.5 model.drop=0.5", "model.drop=0.5: this sets model.drop, and so does model.keep=0.5."),
        ("model.drop=0.5 model.keep=0.5", "model.keep=0.5: this sets model.drop, and so does model.drop=0.5."),
        ("model.keep=0.5 model.dropout=0.5", "this sets model.drop, and so does model.keep=0.5."),
        ("model.kep=0.5", "Did you mean model.keep?"),
        ("~model.keep", "settings cannot be removed."),
        ("+model.keep=0.5", "Write it without the +."),
        ("model.part={stay:0.5}", "write model.part.stay=0.5 as a word of its own."),
        ("model=alpha model.keep=0.5", "there is no setting model.keep"),
        ("experiment=twice", "twice.yaml: model.drop and model.keep are two names of one option: set one of them."),
        ("experiment=far", "far.yaml: model.keep: 1.5 is out of range; legal is a number from 0 to 1."),
    ],
)
def test_refused(text: str, says: str) -> None:
    (found,) = mistakes(text if text.startswith(("model=", "experiment=")) else f"model=named {text}")
    assert says in found


def test_a_name_of_an_unrecognisable_model_cannot_be_judged() -> None:
    assert len(mistakes("model=zzzz model.keep=9")) == 1


@pytest.mark.parametrize(
    ("text", "drop"), [("", 0.1), ("model.drop=0.3", 0.3), ("model.keep=0.3", 0.7), ("model.dropout=0.3", 0.3)]
)
def test_in_a_recipe(text: str, drop: float) -> None:
    config = compose(["experiment=kept", *text.split()])
    assert (config["model"]["drop"], config["model"]["width"]) == (drop, 3)
    assert not {"keep", "rnn_size"} & set(config["model"])


def test_the_later_recipe_counts() -> None:
    assert compose(["experiment=later"])["model"]["drop"] == 0.125
    assert compose(["experiment=again"])["model"]["drop"] == 0.3


def test_in_a_sweep() -> None:
    configs = compose_all(["model=named", "model.keep=0.5,0.8", "seed=1,2"], multirun=True)
    assert [config["model"]["drop"] for config in configs] == [0.5, 0.5, 0.2, 0.2]
    assert "model.keep=1.8" in mistakes("model=named model.keep=0.8,1.8", multirun=True)[0]


def test_in_a_recipes_sweep_the_option_itself_is_asked_for() -> None:
    for multirun in (True, False):
        texts = ["experiment=swept", *(["seed=1,2"] if multirun else ["hydra.mode=MULTIRUN"])]
        (found,) = mistakes(" ".join(texts), multirun=multirun)
        assert found == (
            "hydra.sweeper.params: model.keep is another name: write model.drop there (model.keep = 1 - model.drop)."
        )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model.keep=0.6", "model.drop=0.4"),
        ("++model.keep=0.9", "++model.drop=0.1"),
        ("model.keep=0.5,0.8", "model.drop=0.5,0.2"),
        ("model.keep=choice(0.5,0.8)", "model.drop=0.5,0.2"),
        ("model.keep=range(0,1,0.5)", "model.drop=1.0,0.5"),
        ("model.rnn_size=3,4", "model.width=3,4"),
        ("model.dropout=interval(0,1)", "model.drop=interval(0,1)"),
        ("model.keep=interval(0,1)", "++model.keep=interval(0,1)"),
        ("model.part.stay=0.9", "model.part.rate=0.1"),
        ("model.high=0.9", "++model.high=0.9"),  # model=other means something else by it, and may be in the sweep
        ("model.drop=0.1", "model.drop=0.1"),
    ],
)
def test_what_hydra_is_told(text: str, told: str) -> None:
    assert words.forced(text, compose(["model=named"])) == told
    if "interval" not in told:
        single = told.split(",")[0]
        composed = loader().load_configuration("config", ["model=named", single], RunMode.RUN)
        again = compose(["model=named", single])  # as the job itself reads it
        assert single.startswith("++model.high") or composed.model == again["model"]
        assert again == compose_all(["model=named", text], multirun=True)[0]


def test_whole_commands(
    shared_house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drops: list[tuple[float, float]] = []

    def task(config: dict[str, Any]) -> None:
        drops.append((config["model"]["drop"], config["model"]["low"]))

    monkeypatch.setattr(targets, "load", lambda dotted: task)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    # What model.high is depends on the model, so that Hydra is told of it as it stands.
    assert cli.main(["-m", "model=named", "model.keep=0.5,0.8", "model.high=0.9"]) == 0
    assert drops == [(0.5, 0.1), (0.2, 0.1)]
    assert cli.main(["--cfg", "job", "model=named", "model.keep=0.6"]) == 0
    shown = capsys.readouterr().out
    assert "drop: 0.4" in shown
    assert "keep" not in shown


@given(st.decimals(0, 1, places=6))
def test_complement_is_exact_in_decimals(keep: Decimal) -> None:
    option = schema.Option("float", min=0, max=1)
    value = aliases.converted(Alias("model.drop", "complement"), option, float(keep))
    assert value == float(1 - keep)
    assert aliases.converted(Alias("model.drop", "complement"), option, value) == float(keep)


def test_it_is_shown_with_the_option() -> None:
    said = "a number from 0 to 1; also written model.keep = 1 - model.drop; also written model.dropout"
    assert f"dropped ({said})" in help.text(["--help", "model=named"])
    assert f"| `model.drop` | `0.5` | {said} | dropped |" in reference.render()
    lines = surface.surface().splitlines()
    assert f"model=named model.drop: {said}" in lines
    assert "model=named model.keep: another name, 1 - model.drop" in lines
    assert "model=named model.rnn_size: another name, model.width" in lines
