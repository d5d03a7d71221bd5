"""A configuration against the relations that its files declare: pairs that cannot be, and options without effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from recexp.config import catalogue, relations, schema
from recexp.config.findings import Findings
from recexp.config.relations import Need
from recexp.config.values import IllegalValue, convert, show

Config = Mapping[str, Any]


def broken(config: Config, options: schema.Schema, explicit: frozenset[str], findings: Findings) -> list[str]:
    """Sentences about illegal pairs, and about options without effect that the user has set.

    Args:
        config: Converted values.
        options: Those of its choices.
        explicit: Keys of the command line.
        findings: Keys in it are not judged again.
    """
    texts = [*_illegal(config, options, findings), *_ends(config, options, findings)]
    return texts + list(_useless(config, options, explicit, findings))


def usual(config: Config) -> Config:
    """What the chosen files say where the user says nothing."""
    return catalogue.defaults(catalogue.choices_of(config))


def users_own(config: Config, key: str, defaults: Config, option: schema.Option | None) -> bool:
    """Whether a value is another than the chosen files' own, so that it comes from the user."""
    default = catalogue.value_at(defaults, key)
    refers = isinstance(default, str) and "${" in default
    return not refers and catalogue.value_at(config, key) != _typed(default, option)


def described(key: str, option: schema.Option) -> str:
    """An option's relations in words, each after a semicolon; nothing where it has none."""
    section = f"{key.rpartition('.')[0]}."
    parts = []
    for other, table in option.legal_with.items():
        for legal in dict.fromkeys(table.values()):
            held = Need(tuple(value for value, listed in table.items() if listed == legal))
            parts.append(f"with {held.said(_short(other, section))}: {', '.join(map(relations.word, legal))}")
    parts += [f"only with {need.said(_short(other, section))}" for other, need in option.only_with.items()]
    for need in dict.fromkeys(option.needed_by.values()):
        users = [user for user, needs in option.needed_by.items() if needs == need]
        parts.append(f"without {need.said(key)} there is no {', '.join(users)}")
    if option.ends_with is not None:
        parts.append(f"ends with {_short(str(option.ends_with), section)}")
    parts += [f"also written {_alias(name, kind, key)}" for name, kind in option.aliases.items()]
    return "".join(f"; {part}" for part in parts)


def mistakes(options: schema.Schema, facts: set[str]) -> list[str]:
    """What is wrong with the declarations themselves; the tests of conf/ ask for every choice."""
    found: list[str] = []
    for key, option in options.items():
        for other, table in option.legal_with.items():
            found += _foreign(f"{key}: legal_with: {other}", other, table, options, facts)
            for legal in table.values():
                found += _foreign(f"{key}: legal_with: {other}", key, legal, options, facts)
        for other, need in option.only_with.items():
            found += _foreign(f"{key}: only_with: {other}", other, need.values, options, facts)
            if need.above is not None and (other not in options or options[other].type not in ("int", "float")):
                found.append(f"{key}: only_with: {other} is no number that could be above {need.above:g}")
        width = option.ends_with
        if isinstance(width, str) and (width not in options or options[width].type != "int"):
            found.append(f"{key}: ends_with: {width} is no whole number")
        for user, need in option.needed_by.items():
            found += [] if user in options else [f"{key}: needed_by: there is no option {user}"]
            found += _foreign(f"{key}: needed_by: {user}", key, need.values, options, facts)
        for name, kind in option.aliases.items():
            if name in {*options, *facts} or sum(name in one.aliases for one in options.values()) > 1:
                found.append(f"{key}: aliases: {name} is a key of its own")
            if kind == "complement" and (option.type != "float" or option.choices is not None):
                found.append(f"{key}: aliases: {name}: only a number has a complement")
    return found


def _illegal(config: Config, options: schema.Schema, findings: Findings) -> Iterator[str]:
    for key, option in options.items():
        value = catalogue.value_at(config, key)
        for other, table in option.legal_with.items():
            if value is None or findings.is_bad(key) or findings.is_bad(other):
                continue
            met = _typed(catalogue.value_at(config, other), options.get(other))
            for held, listed in table.items():
                legal = [_typed(one, option) for one in listed]
                given = value if isinstance(value, list) else [value]
                if _typed(held, options.get(other)) == met and any(one not in legal for one in given):
                    words = ", ".join(show(one) for one in legal) + (", or null" if option.nullable else "")
                    yield (f"{key}={show(value)} with {other}={show(met)}: cannot work. With {show(met)}: {words}.")


def _ends(config: Config, options: schema.Schema, findings: Findings) -> Iterator[str]:
    for key, option in options.items():
        wanted, value = option.ends_with, catalogue.value_at(config, key)
        if wanted is None or not value or findings.is_bad(key) or findings.is_bad(str(wanted)):
            continue
        last = int(value.split("-")[-1]) if isinstance(value, str) else value[-1]
        needed = catalogue.value_at(config, wanted) if isinstance(wanted, str) else wanted
        if last != needed:
            said = f"{wanted}={needed}: make the two equal" if isinstance(wanted, str) else str(needed)
            yield f"{key}={show(value)} ends with {last}, but has to end with {said}."


def _useless(config: Config, options: schema.Schema, explicit: frozenset[str], findings: Findings) -> Iterator[str]:
    defaults = usual(config)
    for key, other, need, otherwise in _needs(options):
        known = key in options and _is_there(config, other)  # either may belong to another choice
        if not known or findings.is_bad(key) or findings.is_bad(other):
            continue
        met = catalogue.value_at(config, other)
        if _is_met(need, met):
            continue
        if key in explicit or users_own(config, key, defaults, options[key]):
            value = show(catalogue.value_at(config, key))
            yield f"{key}={value} has no effect with {_said(config, other, options)}: {otherwise}."


def _needs(options: schema.Schema) -> Iterator[tuple[str, str, Need, str]]:
    """Each (option, key that it depends on, what that must be, what to do instead)."""
    for key, option in options.items():
        for other, declared in option.only_with.items():
            need = _typed_need(declared, options.get(other))
            yield key, other, need, option.otherwise or f"it needs {need.said(other)}"
        for user, declared in option.needed_by.items():
            need = _typed_need(declared, option)
            yield user, key, need, f"it needs {need.said(key)}"


def _typed_need(need: Need, option: schema.Option | None) -> Need:
    return replace(need, values=tuple(_typed(value, option) for value in need.values))


def _is_met(need: Need, value: Any) -> bool:
    if need.above is not None:
        return isinstance(value, (int, float)) and value > need.above
    return value in need.values


def _said(config: Config, key: str, options: schema.Schema) -> str:
    """A key and its value; for what a choice states about itself, the choice too."""
    value = f"{key}={show(catalogue.value_at(config, key))}"
    group = key.split(".")[0]
    return value if key in options else f"{group}={catalogue.value_at(config, f'{group}.name')} ({value})"


def _is_there(config: Config, key: str) -> bool:
    section, _, name = key.rpartition(".")
    node = catalogue.value_at(config, section) if section else config
    return isinstance(node, Mapping) and name in node


def _typed(value: Any, option: schema.Option | None) -> Any:
    """A value of a file in the option's type: YAML reads a bare off as false."""
    if option is None:
        return value
    try:
        return convert(option, value)
    except IllegalValue:
        return value


def _foreign(where: str, key: str, values: Any, options: schema.Schema, facts: set[str]) -> list[str]:
    """Values that a key cannot have; a fact of another choice can have any."""
    if key not in options:
        return [] if key in facts else [f"{where}: there is no option or fact {key}"]
    option, found = options[key], []
    for value in values:
        try:
            convert(option, [value] if option.type.startswith("list[") else value)
        except IllegalValue as illegal:
            found.append(f"{where}: {illegal}")
    return found


def _short(key: str, section: str) -> str:
    return key.removeprefix(section) if "." not in key.removeprefix(section) else key


def _alias(name: str, kind: str, key: str) -> str:
    return f"{name} = 1 - {key}" if kind == "complement" else name
