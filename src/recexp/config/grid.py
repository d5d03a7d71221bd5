"""What runs with what: the page of the documentation that lists every model, dataset and problem that go together."""

from __future__ import annotations

from collections.abc import Iterator

from recexp.config import catalogue

_HEAD = """\
<!-- Generated from the configuration itself; do not edit. -->
# What runs with what

A model solves one or several problems, a dataset poses one or several, and a run needs one that both have. The problem
in **bold** is the one that the model takes where nothing is said; write `problem=WORD` for another. The
device and the [precision](precision.md) are free to choose. What cannot run is refused, with what can, before anything
is loaded.
"""

_TABLE = """\
## Models and datasets

The command of a cell is `python -m recexp model=MODEL dataset=DATASET`, and `problem=WORD` where the word is not bold.
"""

_PROBLEMS = """\
## Problems

What is predicted, and what it is tested on. Numbers of two problems are never comparable ([protocols](protocols.md)).
"""


def render() -> str:
    """The whole page, ending with a newline."""
    models, datasets = catalogue.choices("model"), catalogue.choices("dataset")
    head = "".join(f" `model={model}` |" for model in models)
    rows = [f"| `dataset={dataset}` |{_cells(models, dataset)}" for dataset in datasets]
    table = "\n".join([f"| |{head}", "|---|" + "---|" * len(models), *rows]) + "\n"
    problems = [_row(problem) for problem in catalogue.choices("problem")]
    said = "\n".join(["| problem | what it is | models | datasets |", "|---|---|---|---|", *problems]) + "\n"
    return "\n".join([_HEAD, _TABLE, table, _PROBLEMS, said]).rstrip() + "\n"


def common(model: str, dataset: str) -> list[str]:
    """The problems that a model solves and a dataset poses, the model's usual one first."""
    poses = catalogue.stated("dataset", dataset, "poses") or []
    default = usual(model)
    both = [word for word in catalogue.stated("model", model, "problems") or [] if word in poses]
    return sorted(both, key=lambda word: word != default)


def usual(model: str) -> str | None:
    """The problem that a model's file brings in."""
    return catalogue.implied({"model": model}).get("problem")


def _cells(models: list[str], dataset: str) -> str:
    return "".join(f" {', '.join(_words(model, dataset)) or 'no'} |" for model in models)


def _words(model: str, dataset: str) -> Iterator[str]:
    for word in common(model, dataset):
        yield f"**{word}**" if word == usual(model) else word


def _row(problem: str) -> str:
    purpose = catalogue.read(f"problem/{problem}").help
    models = _listed("model", "problems", problem)
    return f"| `problem={problem}` | {purpose} | {models} | {_listed('dataset', 'poses', problem)} |"


def _listed(group: str, key: str, problem: str) -> str:
    words = [word for word in catalogue.choices(group) if problem in (catalogue.stated(group, word, key) or [])]
    return ", ".join(words) or "none"
