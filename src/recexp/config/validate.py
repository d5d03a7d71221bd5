"""Checks of keys and values against the schema, in words for the user; every mistake, not only the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recexp.config.schema import SHORTHANDS, Schema, aliases, sections
from recexp.config.suggest import closest_key, did_you_mean
from recexp.config.targets import refusal
from recexp.config.values import IllegalValue, convert


def tree(config: Mapping[str, Any], options: Schema, facts: set[str]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Convert every value of a composed configuration to its option's type.

    Args:
        config: Nested plain values, interpolations resolved.
        options: What is legal.
        facts: Keys that group files state about themselves; they are taken as they are.

    Returns:
        The converted tree, and (dotted key, what is wrong) for each mistake; a value with a mistake stays as it was.
    """
    mistakes: list[tuple[str, str]] = []
    converted = _walk(config, "", options, facts, sections(options), mistakes)
    mistakes += [(key, f"{key} has no value; legal is {options[key].legal()}.") for key in _missing(converted, options)]
    mistakes += [(key, text) for key, dotted in _targets(config, "") if (text := refusal(dotted)) is not None]
    return converted, mistakes


def unknown(key: str, options: Schema, candidates: set[str] | None = None) -> str:
    """The sentence for a key that does not exist: what was probably meant, and what the section has."""
    legal = {*options, *aliases(options)} if candidates is None else candidates
    suggestion = closest_key(key, legal)
    section = key.rpartition(".")[0]
    text = f"there is no setting {key}.{did_you_mean(suggestion)}"
    if section and suggestion is None and section in sections(options):
        text += f" {section} has: {', '.join(children(section, options))}."
    return text


def children(section: str, options: Schema) -> list[str]:
    """The names directly below a section."""
    prefix = f"{section}."
    return list(dict.fromkeys(key[len(prefix) :].split(".")[0] for key in options if key.startswith(prefix)))


def not_a_value(section: str, options: Schema) -> str:
    """The sentence for a section that was given a plain value."""
    short = SHORTHANDS.get(section)
    names = ", ".join(f"{section}.{name}" for name in children(section, options))
    hint = f"; {section}=WORD sets {short}" if short else ""
    return f"{section} is a section, not a setting. Set one of {names}{hint}."


def _walk(
    node: Mapping[str, Any],
    prefix: str,
    options: Schema,
    facts: set[str],
    inner: set[str],
    mistakes: list[tuple[str, str]],
) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        converted[name] = value
        if "." in str(name):
            mistakes.append((key, f"'{name}' has a dot: write it nested, {_nested(str(name))}."))
        elif key in options:
            converted[name] = _checked(key, value, options, mistakes)
        elif key in inner and isinstance(value, Mapping):
            converted[name] = _walk(value, f"{key}.", options, facts, inner, mistakes)
        elif key in inner:
            mistakes.append((key, not_a_value(key, options)))
        elif key not in facts:
            mistakes.append((key, unknown(key, options, None if prefix else {*options, *inner})))
    return converted


def _checked(key: str, value: Any, options: Schema, mistakes: list[tuple[str, str]]) -> Any:
    try:
        return convert(options[key], value)
    except IllegalValue as illegal:
        mistakes.append((key, f"{key}: {illegal}"))
        return value


def _nested(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}: {{{_nested(rest)}}}" if rest else f"{first}: ..."


def _missing(config: Mapping[str, Any], options: Schema) -> Iterator[str]:
    for key in options:
        node: Any = config
        for part in key.split("."):
            node = node.get(part, _missing) if isinstance(node, Mapping) else None
            if node is _missing:
                yield key
                break


def _targets(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == "_target_":
                yield f"{prefix}{name}", value
            else:
                yield from _targets(value, f"{prefix}{name}.")
    elif isinstance(node, list):
        for element in node:
            yield from _targets(element, prefix)
