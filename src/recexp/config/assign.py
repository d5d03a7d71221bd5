"""Words of the command line put into a composed configuration, each checked against the schema on its way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recexp.config import aliases, schema
from recexp.config.catalogue import merge
from recexp.config.findings import Findings
from recexp.config.relations import Alias
from recexp.config.targets import refusal
from recexp.config.validate import not_a_value, unknown
from recexp.config.values import IllegalValue, convert, show
from recexp.config.words import Word


@dataclass(frozen=True)
class Legal:
    """What may be assigned: ``options``, and ``elsewhere``, those of the choices of groups whose choice is unknown."""

    options: schema.Schema
    elsewhere: schema.Schema
    facts: set[str]
    sections: set[str]

    @cached_property
    def aliases(self) -> dict[str, Alias]:
        """Other names of the options."""
        return schema.aliases(self.options)


def assign(
    tree: Mapping[str, Any], words: Iterable[tuple[int, Word]], legal: Legal, findings: Findings
) -> tuple[dict[str, Any], dict[str, Word]]:
    """Return the tree with every sound word put in, and which word set which key.

    Args:
        tree: Composed, unresolved; not changed.
        words: Position and word; the later one wins.
        legal: What may be set.
        findings: Takes the mistakes.
    """
    result = dict(tree)
    origin: dict[str, Word] = {}
    names: dict[str, str] = {}
    for order, word in words:
        if _mark_is_fine(order, word, legal, findings):
            for key, value in _leaves(word.key, word.value, legal):
                problem, converted = _check(key, value, word, legal)
                own = legal.aliases[key].key if key in legal.aliases else key
                if problem is None and names.setdefault(own, key) != key:
                    problem = f"this sets {own}, and so does {origin[own].text}. Write one of them."
                if problem is None:
                    result = _put(result, own, converted)
                    origin[own] = word
                elif problem:
                    findings.add(order, f"{word.text}: {problem}", own if own in legal.options else None)
    return result, origin


def _mark_is_fine(order: int, word: Word, legal: Legal, findings: Findings) -> bool:
    key = word.key
    known = key in legal.options or key in legal.sections or key in legal.aliases
    if word.mark == "~":
        null = f" Write {key}=null." if key in legal.options and legal.options[key].nullable else ""
        text = f"settings cannot be removed.{null}" if known else unknown(key, legal.options)
        findings.add(order, f"{word.text}: {text}", key if known else None)
        return False
    if word.mark == "+" and known:
        findings.add(order, f"{word.text}: {key} exists already. Write it without the +.", key)
        return False
    return True


def _leaves(key: str, value: Any, legal: Legal) -> list[tuple[str, Any]]:
    if key in legal.sections and isinstance(value, Mapping):
        return [leaf for name, below in value.items() for leaf in _leaves(f"{key}.{name}", below, legal)]
    return [(key, value)]


def _check(key: str, value: Any, word: Word, legal: Legal) -> tuple[str | None, Any]:
    """What is wrong (None: nothing; "": it cannot be judged) and the value in the option's type."""
    if key.rpartition(".")[2] == "_target_" and (refused := refusal(value)) is not None:
        return refused, value
    owner = _free_mapping(key, legal)
    if key in legal.aliases:
        return _convert_alias(legal.aliases[key], key, value, word, legal)
    if key in legal.options:
        return _convert(legal.options[key], value, word if key == word.key else None)
    if owner is not None:
        return None, value
    if any(key == fact or key.startswith(f"{fact}.") for fact in legal.facts):
        group = key.split(".")[0]
        return f"{key} is stated by the {group}'s own file and cannot be set. Choose another {group}.", value
    if key in legal.sections:
        return not_a_value(key, legal.options), value
    if key in legal.elsewhere or key in schema.aliases(legal.elsewhere):
        return "", value
    plus = f" {word.mark} cannot create it." if word.mark else ""
    return unknown(key, {**legal.elsewhere, **legal.options}, _candidates(key, legal)) + plus, value


def _candidates(key: str, legal: Legal) -> set[str]:
    found = {*legal.options, *legal.elsewhere, *legal.aliases, *schema.aliases(legal.elsewhere)}
    return found if "." in key else found | legal.sections | {"experiment"}


def _free_mapping(key: str, legal: Legal) -> str | None:
    parts = key.split(".")
    for length in range(1, len(parts)):
        above = ".".join(parts[:length])
        if above in legal.options and legal.options[above].type == "dict":
            return above
    return None


def _convert(option: schema.Option, value: Any, word: Word | None) -> tuple[str | None, Any]:
    if isinstance(value, str) and "${" in value:
        return None, value  # judged once it is resolved
    try:
        return None, convert(option, value, written=None if word is None else word.written)
    except IllegalValue as illegal:
        return str(illegal), value


def _convert_alias(alias: Alias, key: str, value: Any, word: Word, legal: Legal) -> tuple[str | None, Any]:
    if key != word.key:
        return f"{key} is another name of {alias.key}: write {key}={show(value)} as a word of its own.", value
    try:
        return None, aliases.converted(alias, legal.options[alias.key], value, word.written)
    except IllegalValue as illegal:
        return str(illegal), value


def _put(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return merge(tree, nested)
