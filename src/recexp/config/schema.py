"""What is legal: one flat table, dotted key -> option, from the dataclasses and the ``_schema_`` of group files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from recexp.config import relations
from recexp.config.relations import Alias, Need
from recexp.config.settings import Settings
from recexp.errors import ConfigError

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of texts",
    "list[int]|str": "a list of whole numbers, or they joined by dashes as in 512-256",
    "list[float]|str": "a list of numbers, or they joined by dashes as in 0.5-2",
    "dict": "a mapping {key: value}",
}

# A setting that stands for its whole section, so that tracking=off and optim=sgd can be written.
SHORTHANDS = {
    "tracking": "tracking.backend",
    "optim": "optim.name",
    "optim.schedule": "optim.schedule.name",
    "debug.profiler": "debug.profiler.enabled",
    "debug.overflow": "debug.overflow.action",
    "debug.dump": "debug.dump.steps",
}


@dataclass(frozen=True)
class Option:
    """One setting. ``min`` and ``max`` are included, and hold for every element of a list; ``nonempty`` is for lists.

    ``legal_with``: other key -> its value -> what this option may be then (null always may, where it is legal at all).
    ``only_with``: what other keys must be for this option to have an effect; ``otherwise`` says what to do instead.
    ``ends_with``: what the last element of a list has to be: a number, or the key of the option that says it.
    ``needed_by``: the same, stated by the other side. ``aliases``: other name -> kind of `recexp.config.relations`.
    """

    type: str
    help: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] | None = None
    nullable: bool = False
    identity: bool = True
    nonempty: bool = False
    legal_with: Mapping[str, Mapping[Any, tuple[Any, ...]]] = dataclasses.field(default_factory=dict)
    only_with: Mapping[str, Need] = dataclasses.field(default_factory=dict)
    otherwise: str = ""
    needed_by: Mapping[str, Need] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ends_with: int | str | None = None

    def legal(self) -> str:
        """What may be written, in words."""
        if self.choices is not None:
            listed = ", ".join(str(choice) for choice in self.choices)
            text = f"a list of any of {listed}" if self.type.startswith("list[") else f"one of {listed}"
        else:
            text = TYPES[self.type] + self.bounds()
        return f"{text}, or null" if self.nullable else text

    def bounds(self) -> str:
        """The legal range, in words, or nothing."""
        if self.min is not None and self.max is not None:
            return f" from {self.min:.12g} to {self.max:.12g}"
        if self.min is not None:
            return f" >= {self.min:.12g}"
        return "" if self.max is None else f" <= {self.max:.12g}"


Schema = Mapping[str, Option]


@cache
def core() -> dict[str, Option]:
    """The options that every run has."""
    return dict(_core(Settings, ""))


@cache
def groups() -> tuple[str, ...]:
    """The config groups: the sections of `Settings` whose keys stand in group files."""
    return tuple(name for name, hint in get_type_hints(Settings).items() if get_origin(hint) is dict)


def core_defaults() -> dict[str, Any]:
    """The nested default values of the core (a fresh copy); groups are empty."""
    return dataclasses.asdict(Settings())


def sections(schema: Schema) -> set[str]:
    """Every dotted prefix under which options or groups lie."""
    found = set(groups())
    for key in schema:
        parts = key.split(".")
        found.update(".".join(parts[:length]) for length in range(1, len(parts)))
    return found


def aliases(schema: Schema) -> dict[str, Alias]:
    """The other names of options, each with what it stands for."""
    return {name: Alias(key, kind) for key, option in schema.items() for name, kind in option.aliases.items()}


def parse(
    node: Mapping[str, Any], prefix: str, where: str, above: Mapping[str, Any] | None = None
) -> dict[str, Option]:
    """Flatten a ``_schema_`` block; a mapping with a textual ``type`` is an option, any other is a section.

    Args:
        node: The block, or a section of it.
        prefix: What its keys begin with.
        where: The file, for messages.
        above: Attributes that the sections around it state for all options.

    Raises:
        ConfigError: the block itself is malformed.
    """
    options: dict[str, Option] = {}
    stated = {name: node[name] for name in relations.SHARED if name in node and not _is_option(node[name])}
    shared = {**(above or {}), **stated}
    for name, entry in node.items():
        key = f"{prefix}{name}"
        if name in stated:
            continue
        if not isinstance(entry, Mapping):
            raise ConfigError([f"{where}: _schema_: {key} must be a mapping such as {{type: int, help: ...}}"])
        if _is_option(entry):
            options[key] = _parse_option({**shared, **entry}, key, where)
        else:
            options.update(parse(entry, f"{key}.", where, shared))
    return options


def _is_option(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("type"), str)


def _parse_option(entry: Mapping[str, Any], key: str, where: str) -> Option:
    attributes = {field.name for field in dataclasses.fields(Option)}
    unknown = sorted(set(entry) - attributes)
    if unknown or entry["type"] not in TYPES or not key.startswith(tuple(f"{name}." for name in groups())):
        legal = (
            f"attributes are {', '.join(sorted(attributes))}; types {', '.join(TYPES)}; groups {', '.join(groups())}"
        )
        raise ConfigError([f"{where}: _schema_: {key}: {dict(entry)} is not an option of a group: {legal}"])
    values = {**entry, **relations.parse(entry, key, where)}
    if values.get("choices") is not None:
        values["choices"] = tuple(values["choices"])
    return Option(**values)


def _core(settings: type, prefix: str) -> Iterator[tuple[str, Option]]:
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _core(_as_class(hint), f"{prefix}{field.name}.")
        elif get_origin(hint) is not dict:
            yield f"{prefix}{field.name}", _core_option(hint, field)


def _core_option(hint: Any, field: dataclasses.Field[Any]) -> Option:
    nullable = isinstance(hint, UnionType) and NoneType in get_args(hint)
    if nullable:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    name = hint.__name__ if get_origin(hint) is None else str(hint)
    meta = field.metadata
    if not meta or (field.default is MISSING and field.default_factory is MISSING):
        raise TypeError(f"settings.{field.name} is not declared with option()")
    return Option(name, meta["help"], meta["min"], meta["max"], meta["choices"], nullable, meta["identity"])


def _as_class(hint: Any) -> type:
    if not isinstance(hint, type):
        raise TypeError(f"{hint!r} is not a class")
    return hint
