"""The words of the command line, read one by one, so that a malformed one does not hide the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from recexp.config import aliases, catalogue, schema
from recexp.config.suggest import closest, did_you_mean

MARKS = {OverrideType.ADD: "+", OverrideType.FORCE_ADD: "++", OverrideType.DEL: "~", OverrideType.CHANGE: ""}


class Unreadable(ValueError):
    """The word is not of the form key=value."""


@dataclass(frozen=True)
class Word:
    """One word: ``text`` as typed, ``mark`` one of "", +, ++, ~, ``written`` the right-hand side as typed."""

    text: str
    mark: str
    key: str
    value: Any
    written: str
    several: bool

    @property
    def is_hydra(self) -> bool:
        """Whether it is about Hydra itself."""
        return self.key.startswith(("hydra.", "hydra/"))


@lru_cache(maxsize=4096)
def read(text: str) -> Word:
    """Parse one word by Hydra's grammar.

    Raises:
        Unreadable: with what was probably meant.
    """
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise Unreadable(f"{text}: cannot be read.{_form(text, str(error))}") from error
    key = override.get_key_element().lstrip("+~")
    if not key:
        raise Unreadable(f"{text}: cannot be read. Write key=value.")
    several = override.is_sweep_override()
    written = text.partition("=")[2].strip()
    return Word(text, MARKS[override.type], key, None if several else override.value(), written, several)


def expand(texts: Sequence[str], params: Mapping[str, Any], loader: ConfigLoader, *, only: bool) -> list[list[str]]:
    """Every combination of a sweep, in the order and with the words in which Hydra's own sweeper starts them.

    Args:
        texts: Readable words of the command line.
        params: ``hydra.sweeper.params``, which the words are put after.
        loader: Knows the choices that a glob stands for.
        only: Hydra's own sweeper is used; another one may draw from intervals, which cannot be listed.

    Raises:
        HydraException: Hydra's own sweeper cannot do this.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides: list[Override] = parser.parse_overrides([f"{key}={value}" for key, value in params.items()] + [*texts])
    if not only:
        overrides = [override for override in overrides if not override.is_interval_sweep()]
    return BasicSweeper.split_arguments(overrides, None)[0]


def long_form(text: str) -> str:
    """Write a shorthand out: ``tracking=off`` is ``tracking.backend=off``. Other words stay as they are."""
    key, equals, value = text.partition("=")
    bare = key.lstrip("+")
    is_short = equals and bare in schema.SHORTHANDS and not value.lstrip().startswith(("{", "$"))
    return f"{key.removesuffix(bare)}{schema.SHORTHANDS[bare]}={value}" if is_short else text


def forced(text: str, config: Mapping[str, Any]) -> str:
    """A word as Hydra takes it: another name of an option is replaced, a key of a free mapping marked with ``++``."""
    word = read(text)
    override = OverridesParser.create().parse_override(text)
    own_name = aliases.rewritten(override, word.mark, word.written, config)
    if own_name is not None:
        return own_name
    if not word.mark and any(f"{word.key}.".startswith(f"{key}.") for key in _free(config)):
        return f"++{text}"
    node: Any = config
    for part in word.key.split("."):
        if not isinstance(node, Mapping):
            return text
        if part not in node:
            is_setting = "." in word.key and not word.is_hydra and not word.mark
            return f"++{text}" if is_setting and node is not config else text
        node = node[part]
    return text


def _free(config: Mapping[str, Any]) -> list[str]:
    """The settings that are mappings with keys of the user's own."""
    return [key for key, option in catalogue.schema_of(config).items() if option.type == "dict"]


def _form(text: str, reason: str) -> str:
    if "=" not in text:
        for group in (*schema.groups(), catalogue.EXPERIMENT):
            suggestion = closest(text, catalogue.choices(group))
            if suggestion is not None:
                return f" Write key=value.{did_you_mean(f'{group}={suggestion}')}"
        return " Write key=value."
    where = reason.splitlines()[0] if reason else ""
    return f" Write key=value, and quote a value with special characters: 'key=\"a b\"' ({where})."
