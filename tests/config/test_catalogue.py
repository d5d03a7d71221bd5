"""The files that can be chosen: their help, schema, bases and defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recexp.config import catalogue
from recexp.errors import ConfigError

Writer = Callable[[Path, dict[str, str]], None]


def test_choices_hide_bases(house: Path) -> None:
    assert catalogue.choices("dataset") == ["click", "shelf"]
    assert catalogue.choices("experiment") == ["alpha_shelf", "grid"]
    assert catalogue.choices("nothing") == []


def test_own_experiments_are_added(new_house: Path, write: Writer) -> None:
    write(new_house / "work", {"experiments/mine.yaml": "seed: 2\n"})
    assert "mine" in catalogue.choices("experiment")


def test_help_and_package(house: Path) -> None:
    file = catalogue.read("model/alpha")
    assert file.help == "the first model"
    assert file.rooted
    assert file.tree["trainer"] == {"max_epochs": 3}
    shelf = catalogue.read("dataset/shelf")
    assert not shelf.rooted
    assert shelf.tree["dataset"]["name"] == "shelf"
    assert "_schema_" not in str(shelf.tree)


def test_chain_follows_bases(house: Path) -> None:
    assert [file.path.stem for file in catalogue.chain("dataset/shelf")] == ["_rows", "shelf"]
    assert [file.path.stem for file in catalogue.chain("model/alpha")] == ["alpha"]


def test_schema_for_choices_and_for_all(house: Path) -> None:
    assert catalogue.implied({"model": "alpha"}) == {"problem": "rank"}
    assert "model.dim" in catalogue.schema_for({"model": "alpha"})
    assert "model.depth" not in catalogue.schema_for({"model": "alpha"})
    assert {"model.dim", "model.depth"} <= set(catalogue.schema_for({"model": None}))


def test_facts(house: Path) -> None:
    chosen = {"model": "alpha", "dataset": "shelf"}
    facts = catalogue.facts(chosen, catalogue.schema_for(chosen))
    assert facts == {
        "model.name",
        "model.problems",
        "model._target_",
        "dataset.name",
        "dataset.poses",
        "dataset.licence",
    }


def test_defaults_of_choices(house: Path) -> None:
    chosen = catalogue.default_choices()
    assert chosen["problem"] == "rank"
    values = catalogue.defaults(chosen)
    assert catalogue.value_at(values, "dataset.batch_size") == 32
    assert catalogue.value_at(values, "trainer.max_epochs") == 3
    assert catalogue.value_at(values, "optim.lr") == 0.001
    assert catalogue.value_at(values, "optim.nothing.at.all") is None


def test_an_edited_file_is_read_again(new_house: Path, write: Writer) -> None:
    assert catalogue.read("problem/guess").help == "guessing"
    write(new_house, {"conf/problem/guess.yaml": "# help: another\nname: guess\n"})
    assert catalogue.read("problem/guess").help == "another"


@pytest.mark.parametrize("text", ["a: [1\n", "- 1\n", "3\n"])
def test_what_is_no_configuration_is_named(new_house: Path, write: Writer, text: str) -> None:
    write(new_house, {"conf/model/odd.yaml": text})
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        catalogue.read("model/odd")


def test_missing_file(house: Path) -> None:
    with pytest.raises(ConfigError, match="model/nothing"):
        catalogue.read("model/nothing")


def test_clash(new_house: Path, write: Writer) -> None:
    shipped = (new_house / "experiments/alpha_shelf.yaml").read_text(encoding="utf-8")
    write(new_house / "work", {"experiments/alpha_shelf.yaml": shipped})
    assert catalogue.clash("alpha_shelf") is None
    write(new_house / "work", {"experiments/alpha_shelf.yaml": "seed: 1\n"})
    assert "Rename yours" in (catalogue.clash("alpha_shelf") or "")


def test_merge_leaves_its_arguments() -> None:
    below = {"a": {"b": 1, "c": [1]}}
    assert catalogue.merge(below, {"a": {"c": [2]}, "d": 1}) == {"a": {"b": 1, "c": [2]}, "d": 1}
    assert below == {"a": {"b": 1, "c": [1]}}
