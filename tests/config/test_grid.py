"""The page of what runs with what says what the files say, and every cell of it can be composed."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from recexp.config import catalogue, grid, rules
from recexp.config.compose import compose
from recexp.config.findings import Findings

PAGE = Path(__file__).parents[2] / "docs" / "grid.md"
CELLS = list(product(catalogue.choices("model"), catalogue.choices("dataset"), catalogue.choices("problem")))


def test_page_is_what_the_files_say() -> None:
    # Writes it: python -c "from recexp.config import grid; print(grid.render(), end='')" > docs/grid.md
    assert PAGE.read_text("utf-8") == grid.render()


def test_page_explains_every_problem() -> None:
    page = grid.render()
    for problem in catalogue.choices("problem"):
        assert catalogue.read(f"problem/{problem}").help in page


@pytest.mark.parametrize(("model", "dataset", "problem"), CELLS)
def test_a_cell_is_refused_exactly_when_the_page_does_not_have_it(model: str, dataset: str, problem: str) -> None:
    chosen = {**catalogue.default_choices(), "model": model, "dataset": dataset, "problem": problem}
    refused = rules.broken(catalogue.defaults(chosen), frozenset(), Findings())
    assert bool(refused) == (problem not in grid.common(model, dataset)), refused


@pytest.mark.parametrize(("model", "problem"), sorted({(model, problem) for model, _, problem in CELLS}))
def test_a_problem_of_a_model_composes_with_some_dataset(model: str, problem: str) -> None:
    for dataset in catalogue.choices("dataset"):
        if problem in grid.common(model, dataset):
            config = compose([f"model={model}", f"dataset={dataset}", f"problem={problem}"])
            assert config["problem"]["name"] == problem
            return
    assert problem not in catalogue.stated("model", model, "problems")


@pytest.mark.parametrize("model", catalogue.choices("model"))
def test_a_model_solves_its_usual_problem(model: str) -> None:
    assert grid.usual(model) in catalogue.stated("model", model, "problems")


@pytest.mark.usefixtures("house")
def test_cells_of_the_small_house() -> None:
    assert grid.common("alpha", "shelf") == ["rank"]
    assert grid.common("alpha", "click") == []
    assert "| `dataset=click` | no | **guess** |" in grid.render()
    assert "| `problem=rank` | ranking | alpha | shelf |" in grid.render()
