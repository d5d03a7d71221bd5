"""The reference of every choice and setting, as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.config import catalogue, schema
from recexp.config.conditions import described
from recexp.config.values import show

_HEAD = """\
<!-- Generated from the configuration itself; do not edit. -->
# Settings

Write `key=value` after `python -m recexp`. A key that is marked *free* cannot change a result and is no part of the
run's identity.
"""


def render() -> str:
    """The whole page, ending with a newline."""
    parts = [_HEAD, "## Choices\n"]
    parts += [_choices(group) for group in (*schema.groups(), catalogue.EXPERIMENT)]
    parts += ["## Settings of every run\n", _table(schema.core(), schema.core_defaults())]
    for group in schema.groups():
        for choice in catalogue.choices(group):
            parts += _own_settings(group, choice)
    return "\n".join(parts).rstrip() + "\n"


def own(group: str, choice: str) -> dict[str, schema.Option]:
    """The options that a choice adds to the core."""
    options = catalogue.schema_for({group: choice})
    return {key: option for key, option in options.items() if key not in schema.core()}


def _own_settings(group: str, choice: str) -> list[str]:
    options = own(group, choice)
    sets = _sets(group, choice)
    if not options and not sets:
        return []
    parts = [f"## {group}={choice}\n", catalogue.read(f"{group}/{choice}").help + "\n"]
    if options:
        parts.append(_table(options, catalogue.defaults({group: choice})))
    if sets:
        parts.append(f"It also sets {', '.join(f'`{key}={show(value)}`' for key, value in sets)}.\n")
    return parts


def _sets(group: str, choice: str) -> list[tuple[str, Any]]:
    """The defaults of other sections that a choice changes."""
    tree = catalogue.read(f"{group}/{choice}").tree
    return list(_leaves({name: below for name, below in tree.items() if name not in (group, "hydra")}, ""))


def _leaves(node: Any, prefix: str) -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        return [(prefix[:-1], node)]
    return [leaf for name, below in node.items() for leaf in _leaves(below, f"{prefix}{name}.")]


def _choices(group: str) -> str:
    rows = [f"| `{group}={choice}` | {_cell(_help(group, choice))} |" for choice in catalogue.choices(group)]
    return "\n".join([f"### {group}\n", "| choice | what it is |", "|---|---|", *rows]) + "\n"


def _help(group: str, choice: str) -> str:
    return catalogue.read(f"{group}/{choice}").help


def _table(options: schema.Schema, values: Mapping[str, Any]) -> str:
    rows = [
        f"| `{key}` | `{show(catalogue.value_at(values, key))}` | {_cell(option.legal() + described(key, option))} | "
        f"{_cell(option.help)}{'' if option.identity else ' *(free)*'} |"
        for key, option in options.items()
    ]
    return "\n".join(["| key | default | legal | what it does |", "|---|---|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
