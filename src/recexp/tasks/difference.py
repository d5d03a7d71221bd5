"""In what two configurations differ, as far as it matters for going on with a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recexp.config.identity import excluded

#: What a run may be continued with though it is another: only its end moves.
EXTENSIBLE = frozenset({"trainer.max_epochs", "trainer.max_steps", "trainer.early_stop_patience"})
#: Groups that say where and in which types a run computes.
_PLACES = ("device.", "precision.")


def is_place(key: str) -> bool:
    """Whether a dotted key belongs to the device or the precision."""
    return key.startswith(_PLACES)


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The dotted keys whose values differ, without those that cannot change a result or only move its end."""
    old, new = flatten(then), flatten(now)
    ignored = excluded(now) | excluded(then) | EXTENSIBLE
    keys = sorted({*old, *new} - ignored)
    return [key for key in keys if old.get(key) != new.get(key) and not key.startswith("task.")]


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flatten(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }
