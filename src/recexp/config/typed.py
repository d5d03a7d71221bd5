"""A composed configuration as the dataclasses of `recexp.config.settings`, for code that wants attributes and types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from recexp.config.settings import Settings

T = TypeVar("T")


def settings(config: Mapping[str, Any]) -> Settings:
    """Build `Settings` from what `recexp.config.compose.compose` returned.

    Raises:
        KeyError: a section or setting is missing.
    """
    return _build(Settings, config)


def _build(target: type[T], node: Mapping[str, Any]) -> T:
    hints = get_type_hints(target)
    if not dataclasses.is_dataclass(target):
        raise TypeError(f"{target!r} is not a dataclass")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(target):
        value = node[field.name]
        values[field.name] = _build(hints[field.name], value) if dataclasses.is_dataclass(hints[field.name]) else value
    return target(**values)
