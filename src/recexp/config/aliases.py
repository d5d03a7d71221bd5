"""Other names of options (``aliases`` in ``_schema_``): what they stand for, on the command line and in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import Override

from recexp.config import catalogue, schema
from recexp.config.relations import Alias
from recexp.config.values import convert, show


def converted(alias: Alias, option: schema.Option, value: Any, written: str | None = None) -> Any:
    """The option's value for one that was given under the other name.

    Raises:
        IllegalValue: in terms of the other name.
    """
    if alias.kind == "same":
        refers = isinstance(value, str) and "${" in value
        return value if refers else convert(option, value, written=written)
    given = convert(_complement_of(option), value)
    return None if given is None else float(_complement(given))


def seen_as(alias: Alias, option: schema.Option) -> schema.Option:
    """What is legal under the other name."""
    return option if alias.kind == "same" else _complement_of(option)


def rewritten(override: Override, mark: str, written: str, config: Mapping[str, Any]) -> str | None:
    """A word that uses another name, as Hydra knows it; None where that cannot be said of every job."""
    name = override.get_key_element().lstrip("+~")
    alias = schema.aliases(catalogue.schema_of(config)).get(name)
    if alias is None or not _is_the_same_everywhere(name, alias):
        return None
    if alias.kind == "same":
        return f"{mark}{alias.key}={written}"
    if not override.is_sweep_override():
        values = [show(override.value())]
    elif override.is_choice_sweep() or override.is_range_sweep():
        values = [str(element) for element in override.sweep_string_iterator()]
    else:
        return None
    said = ["null" if value == "null" else repr(float(_complement(float(value)))) for value in values]
    return f"{mark}{alias.key}={','.join(said)}"


def in_parameters(params: Mapping[str, Any], options: schema.Schema) -> list[str]:
    """Sentences about other names in a recipe's ``hydra.sweeper.params``, which Hydra itself has to understand."""
    others = schema.aliases(options)
    used = [key for key in params if str(key).lstrip("+") in others]
    return [
        f"hydra.sweeper.params: {key} is another name: write {others[str(key).lstrip('+')].key} there "
        f"({str(key).lstrip('+')} = {others[str(key).lstrip('+')].said()})."
        for key in used
    ]


def _is_the_same_everywhere(name: str, alias: Alias) -> bool:
    """Whether no choice of the group means something else by it: the jobs of a sweep may differ in their choices."""
    group = name.split(".")[0]
    for choice in catalogue.choices(group):
        options = catalogue.schema_for({group: choice})
        if name in options or schema.aliases(options).get(name, alias) != alias:
            return False
    return True


def _complement(value: float) -> Decimal:
    """1 - value in decimals: 1 - 0.9 is 0.1."""
    return Decimal(1) - Decimal(repr(value))


def _complement_of(option: schema.Option) -> schema.Option:
    low = None if option.max is None else float(_complement(option.max))
    high = None if option.min is None else float(_complement(option.min))
    return replace(option, min=low, max=high)
