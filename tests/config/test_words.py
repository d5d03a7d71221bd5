"""The words of the command line: shorthands, marks, and what Hydra must be told."""

from __future__ import annotations

import pytest

from recexp.config import words


@pytest.mark.parametrize(
    ("text", "long"),
    [
        ("tracking=off", "tracking.backend=off"),
        ("optim=sgd,adam", "optim.name=sgd,adam"),
        ("++optim.schedule=cosine", "++optim.schedule.name=cosine"),
        ("optim={lr: 1}", "optim={lr: 1}"),
        ("optim.lr=1", "optim.lr=1"),
        ("tracking", "tracking"),
        ("optim=${other}", "optim=${other}"),
    ],
)
def test_long_form(text: str, long: str) -> None:
    assert words.long_form(text) == long


def test_read() -> None:
    word = words.read("++tracking.run_name= 'a b'")
    assert (word.mark, word.key, word.value, word.several) == ("++", "tracking.run_name", "a b", False)
    assert words.read("seed=1,2").several
    assert words.read("hydra/launcher=basic").is_hydra
    assert words.read("~x").mark == "~"


@pytest.mark.parametrize("text", ["", "x", "x=[1", "=1", "a b=1", "--x=1"])
def test_unreadable(text: str) -> None:
    with pytest.raises(words.Unreadable, match="Write key=value"):
        words.read(text)


def test_forced_marks_only_new_keys_of_a_mapping() -> None:
    config = {"dataset": {"columns": {"user": "u"}}, "seed": 1}
    assert words.forced("dataset.columns.extra=x", config) == "++dataset.columns.extra=x"
    assert words.forced("dataset.columns.user=x", config) == "dataset.columns.user=x"
    assert words.forced("seed=2", config) == "seed=2"
    assert words.forced("experiment=x", config) == "experiment=x"
    assert words.forced("hydra.verbose=true", config) == "hydra.verbose=true"
