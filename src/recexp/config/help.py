"""The text of --help: how to write a command, what can be chosen, and every setting with its default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recexp.config import catalogue, schema
from recexp.config.conditions import described
from recexp.config.values import show

USAGE = """\
recexp: recommender experiments, one command a cell of the grid.

usage: python -m recexp [key=value ...]       one run
       python -m recexp -m key=a,b ...        every combination
       python -m recexp --cfg job ...         show the configuration, run nothing
       python -m recexp --info defaults ...   show where it comes from (--hydra-help: more flags)
       python -m recexp --version
"""

EXAMPLES = """\
Examples
  python -m recexp model={model} dataset={dataset} trainer.max_epochs=1
  python -m recexp -m seed=1,2,3 tracking=off
  python -m recexp task=doctor
  eval "$(recexp -sc install=bash)"           completion of groups and keys in this shell
  experiment=NAME also reads ./experiments/NAME.yaml of your own."""


def text(arguments: Sequence[str]) -> str:
    """The whole help for the choices among ``arguments`` (``--help model=x`` shows the settings of x)."""
    chosen = chosen_by(arguments)
    options = catalogue.schema_for(chosen)
    values = catalogue.defaults(chosen)
    parts = [USAGE, *(_choices(group, chosen.get(group)) for group in (*schema.groups(), catalogue.EXPERIMENT))]
    said = " ".join(f"{group}={choice}" for group, choice in chosen.items())
    parts.append(f"Settings and their defaults with {said}\n{_settings(options, values)}")
    parts.append(EXAMPLES.format(**chosen))
    return "\n".join(parts)


def chosen_by(arguments: Sequence[str]) -> dict[str, str]:
    """The default choices, and those of the arguments where they exist."""
    said: dict[str, str] = {}
    for argument in arguments:
        group, _, choice = argument.partition("=")
        if group in schema.groups() and choice in catalogue.choices(group):
            said[group] = choice
    chosen = catalogue.default_choices() | said
    chosen |= catalogue.implied(chosen) | said
    return {group: chosen[group] for group in schema.groups() if group in chosen}


def _choices(group: str, chosen: str | None) -> str:
    lines = []
    for choice in catalogue.choices(group):
        mark = "*" if choice == chosen else " "
        lines.append(f"  {mark} {choice:<22} {catalogue.read(f'{group}/{choice}').help}".rstrip())
    note = " (each model has its usual one)" if group == "problem" else ""
    return f"{group}=WORD{note}\n" + "\n".join(lines or ["    none yet"]) + "\n"


def _settings(options: schema.Schema, values: Mapping[str, Any]) -> str:
    left = {key: f"{key}={show(catalogue.value_at(values, key))}" for key in options}
    width = min(44, max(len(entry) for entry in left.values()))
    lines = [
        f"  {left[key]:<{width}}  {option.help} ({option.legal()}{described(key, option)})"
        for key, option in options.items()
    ]
    return "\n".join(lines) + "\n"
