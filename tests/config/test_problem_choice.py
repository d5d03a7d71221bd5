"""A model of several problems: its own choice, and another one from the command, a recipe and a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.config import help
from recexp.config.compose import compose, compose_all
from recexp.config.identity import excluded, identity
from recexp.errors import ConfigError

Writer = Callable[[Path, dict[str, str]], None]

MODEL = """
# @package _global_
# help: a model of two problems
defaults:
  - /problem: guess
  - _self_
model: {name: both, problems: [rank, guess], feed: steps, _target_: recexp.errors.DataError}
trainer: {max_epochs: 1}
"""
SHELF = "# help: books\ndefaults: [_rows, _self_]\nname: shelf\nposes: [rank, guess]\nlicence: CC0\n"
GUESS = """
# help: guessing
name: guess
held: false
draws: {count: 1, share: 0.5}
_schema_:
  held: {type: bool, needed_by: {true: [trainer.monitor, trainer.eval_every_n_epochs]}, help: hold some out}
  draws:
    only_with: {model.feed: [windows]}
    otherwise: such a model has its own
    count: {type: int, min: 1, help: how many}
    share: {type: float, min: 0, help: how large}
"""


@pytest.fixture
def both(new_house: Path, write: Writer) -> Path:
    """The small house with a model and a dataset of two problems, and a recipe that takes the other one."""
    write(
        new_house,
        {
            "conf/model/both.yaml": MODEL,
            "conf/dataset/shelf.yaml": SHELF,
            "conf/problem/guess.yaml": GUESS,
            "experiments/ranked.yaml": "defaults:\n  - override /model: both\n  - override /problem: rank\n"
            "problem: {k: [3]}\n",
            "experiments/held.yaml": "defaults:\n  - override /model: both\ntrainer: {monitor: x}\n",
        },
    )
    return new_house


def mistakes(*words: str, multirun: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_all(words, multirun=multirun)
    return list(caught.value.problems)


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("model=both", "guess"),
        ("model=both problem=rank", "rank"),
        ("problem=rank model=both", "rank"),
        ("experiment=ranked", "rank"),
        ("experiment=ranked problem=guess problem.held=true", None),  # problem.k belongs to the other
        ("model=both problem=rank problem.k=[7]", "rank"),
        ("model=alpha problem=rank", "rank"),
    ],
)
def test_which_problem(words: str, name: str | None) -> None:
    if name is None:
        assert "problem.k" in mistakes(*words.split())[0]
    else:
        assert compose(words.split())["problem"]["name"] == name


@pytest.mark.usefixtures("both")
def test_both_in_one_sweep() -> None:
    configs = compose_all(["model=both", "problem=rank,guess"], multirun=True)
    assert [config["problem"]["name"] for config in configs] == ["rank", "guess"]
    assert "draws" in configs[1]["problem"]


@pytest.mark.usefixtures("both")
def test_what_is_legal_is_named() -> None:
    assert mistakes("model=alpha", "problem=guess") == [
        "problem=guess with model=alpha: the model does not solve it. Models that do: beta, both. "
        "Problems of this model and dataset: rank."
    ]
    assert mistakes("model=both", "dataset=click", "problem=rank") == [
        "problem=rank with dataset=click: the dataset does not pose it. Datasets that do: shelf. "
        "Problems of this model and dataset: guess."
    ]
    assert "Models for this dataset: beta, both." in mistakes("dataset=click")[0]
    assert "Did you mean guess?" in mistakes("model=both", "problem=gues")[0]


@pytest.mark.usefixtures("both")
def test_help_shows_the_problem_that_was_asked_for() -> None:
    assert "model=both problem=guess\n" not in help.text(["--help", "model=both", "problem=rank"])
    assert "problem=guess" in help.text(["--help", "model=both"])
    assert help.chosen_by(["model=both", "problem=rank"])["problem"] == "rank"
    assert help.chosen_by(["problem=rank", "model=both"])["problem"] == "rank"
    assert help.chosen_by(["model=beta"])["problem"] == "guess"


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("trainer.monitor=x", "trainer.monitor=x has no effect with problem.held=false: it needs problem.held=true."),
        ("trainer.eval_every_n_epochs=1", "it needs problem.held=true."),
        (
            "problem.draws.count=1",
            "problem.draws.count=1 has no effect with model=both (model.feed=steps): such a model has its own.",
        ),
        ("problem.draws.share=0.25", "such a model has its own."),
    ],
)
def test_what_has_no_effect_in_a_problem_is_refused(words: str, says: str) -> None:
    (found,) = mistakes("model=both", *words.split())
    assert found.endswith(says)


@pytest.mark.usefixtures("both")
def test_it_is_refused_in_a_recipe_too_and_taken_where_it_works() -> None:
    assert "it needs problem.held=true" in mistakes("experiment=held")[0]
    assert compose(["experiment=held", "problem.held=true"])["trainer"]["monitor"] == "x"
    assert compose(["model=beta", "problem.draws.count=3"])["problem"]["draws"]["count"] == 3  # states no feed


@pytest.mark.usefixtures("both")
def test_facts_cannot_be_set_and_are_no_part_of_the_identity() -> None:
    assert "cannot be set" in mistakes("model=both", "model.feed=windows")[0]
    assert "cannot be set" in mistakes("model=both", "model.problems=[rank]")[0]
    config = compose(["model=both"])
    assert {"model.problems", "model.feed"} <= excluded(config)
    without = {**config, "model": {key: config["model"][key] for key in ("name", "_target_")}}
    assert identity(config, "f") == identity(without, "f")


@pytest.mark.parametrize("model", ["attrec"])
def test_the_real_ones(model: str) -> None:
    assert compose([f"model={model}", "problem=session"])["problem"]["name"] == "session"
    assert compose([f"model={model}", "problem=session", "problem.negatives.count=2"])["problem"]["k"] == [1, 5, 10, 20]
    (found,) = mistakes(f"model={model}", "problem=session", "trainer.early_stop_patience=3")
    assert "problem.validate=true" in found
    compose([f"model={model}", "problem=session", "trainer.early_stop_patience=3", "problem.validate=true"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("problem.negatives.count=1", "draws its own: model.samples, model.sample_alpha"),
        ("problem=next_item problem.negatives.count=1", "draws its own: model.samples, model.sample_alpha"),
        ("problem.drop_last=false", "the schedule of sessions has no rest"),
        ("trainer.monitor=x", "it needs problem.validate=true"),
        ("model.keep_prob=0.6 model.dropout_hidden=0.4", "Write one of them."),
        ("model.loss=bpr model.final_act=softmax", "With bpr: linear, relu, tanh"),
        ("model.loss=bpr model.logq=1", "it needs model.loss=cross_entropy"),
    ],
)
def test_the_real_model_of_sessions(words: str, says: str) -> None:
    (found,) = mistakes("model=gru4rec", *words.split())
    assert says in found
    config = compose(["model=gru4rec", "model.loss=bpr", "model.keep_prob=0.9", "optim=lazy_adam"])
    assert (config["problem"]["name"], config["model"]["dropout_hidden"]) == ("session", 0.1)
