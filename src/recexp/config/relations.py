"""How an option depends on others, as ``_schema_`` writes it: legal_with, only_with, ...; and its other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recexp.errors import ConfigError

#: What another name of an option means: the same value, or 1 - value.
ALIAS_KINDS = ("same", "complement")
#: Attributes that a section may state for all options below it.
SHARED = ("only_with", "otherwise")
EXAMPLES = {
    "legal_with": "legal_with: {loss: {bpr: [tanh, relu]}}",
    "only_with": "only_with: {training: [bptt]} or only_with: {samples: {above: 0}}",
    "needed_by": "needed_by: {true: [trainer.monitor]}",
    "ends_with": "ends_with: 1 or ends_with: width",
    "aliases": f"aliases: {{keep_prob: complement}} (of {', '.join(ALIAS_KINDS)})",
    "otherwise": 'only_with: {...}, otherwise: "what to do instead"',
}


@dataclass(frozen=True)
class Need:
    """What another key must be, for an option to have an effect: one of ``values``, or a number above ``above``."""

    values: tuple[Any, ...] = ()
    above: float | None = None

    def said(self, key: str) -> str:
        """The condition, in words."""
        if self.above is not None:
            return f"{key} above {self.above:.12g}"
        return f"{key}={' or '.join(word(value) for value in self.values)}"


@dataclass(frozen=True)
class Alias:
    """Another name of the option ``key``; ``kind`` is one of `ALIAS_KINDS`."""

    key: str
    kind: str

    def said(self) -> str:
        """What it stands for, in words."""
        return self.key if self.kind == "same" else f"1 - {self.key}"


def parse(entry: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """The relations among an option's attributes; names without a dot are options of the same section.

    Raises:
        ConfigError: one of them is malformed (``where`` names its file).
    """
    readers = {
        "legal_with": _legal_with,
        "only_with": _only_with,
        "needed_by": _needed_by,
        "aliases": _aliases,
        "ends_with": _ends_with,
        "otherwise": _otherwise,
    }
    section = key.rpartition(".")[0]
    found: dict[str, Any] = {}
    for name, read in readers.items():
        if name in entry:
            parsed = read(entry[name], section)
            if not parsed or (name == "otherwise" and "only_with" not in entry):
                text = f"{where}: _schema_: {key}: {name}: {entry[name]} cannot be read. Write {EXAMPLES[name]}."
                raise ConfigError([text])
            found[name] = parsed
    return found


def word(value: Any) -> str:
    """A value of a relation as the command line writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _full(name: Any, section: str) -> str:
    return str(name) if "." in str(name) else f"{section}.{name}"


def _legal_with(node: Any, section: str) -> dict[str, dict[Any, tuple[Any, ...]]]:
    if not isinstance(node, Mapping):
        return {}
    parsed: dict[str, dict[Any, tuple[Any, ...]]] = {}
    for other, table in node.items():
        lists = table.values() if isinstance(table, Mapping) else [None]
        if not table or not all(isinstance(legal, list) and legal for legal in lists):
            return {}
        parsed[_full(other, section)] = {value: tuple(legal) for value, legal in table.items()}
    return parsed


def _only_with(node: Any, section: str) -> dict[str, Need]:
    if not isinstance(node, Mapping):
        return {}
    parsed: dict[str, Need] = {}
    for other, need in node.items():
        if isinstance(need, list) and need:
            parsed[_full(other, section)] = Need(values=tuple(need))
        elif isinstance(need, Mapping) and set(need) == {"above"} and _is_number(need["above"]):
            parsed[_full(other, section)] = Need(above=float(need["above"]))
        else:
            return {}
    return parsed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _needed_by(node: Any, section: str) -> dict[str, Need]:
    if not isinstance(node, Mapping) or not all(isinstance(keys, list) and keys for keys in node.values()):
        return {}
    users = {_full(name, section): None for keys in node.values() for name in keys}
    return {
        user: Need(values=tuple(value for value, keys in node.items() if user in [_full(k, section) for k in keys]))
        for user in users
    }


def _aliases(node: Any, section: str) -> dict[str, str]:
    if not isinstance(node, Mapping) or not all(kind in ALIAS_KINDS for kind in node.values()):
        return {}
    return {f"{section}.{name}": kind for name, kind in node.items() if "." not in str(name)}


def _ends_with(node: Any, section: str) -> int | str | None:
    if isinstance(node, str):
        return _full(node, section)
    return node if isinstance(node, int) and not isinstance(node, bool) else None


def _otherwise(node: Any, section: str) -> str:
    return node if isinstance(node, str) else ""
