"""What makes two runs the same run: a hash of all that can change a result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recexp.config.catalogue import schema_of

# Besides every option declared with identity: false. The task is a verb (train, evaluate), not a part of the result;
# the others describe a choice, whose name is in the hash.
EXCLUDED = (
    "task",
    "dataset.poses",
    "dataset.rows",
    "dataset.attributes",
    "dataset.licence",
    "device.precisions",
    "device.preflight",
    "model.blocks",
    "model.problems",
    "model.feed",
)


def identity(config: Mapping[str, Any], fingerprint: str) -> str:
    """Hash a composed configuration together with the fingerprint of the data.

    The order of keys does not matter, the order of lists does. Values are those of `recexp.config.compose.compose`,
    where 1 and 1.0 are one value if the option is a float.

    Args:
        config: Plain nested values.
        fingerprint: Content hash of the prepared data.

    Returns:
        64 hexadecimal digits.

    Raises:
        TypeError: a key is not a text, or a value has no JSON form.
        ValueError: a number is not finite.
    """
    content = {"config": _kept(config, "", excluded(config)), "data": fingerprint}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def excluded(config: Mapping[str, Any]) -> frozenset[str]:
    """The dotted keys that `identity` leaves out of this configuration."""
    options = schema_of(config)
    return frozenset(EXCLUDED) | {key for key, option in options.items() if not option.identity}


def _kept(node: Any, prefix: str, left_out: frozenset[str]) -> Any:
    if isinstance(node, Mapping):
        for name in node:
            if not isinstance(name, str):
                raise TypeError(f"{prefix}{name!r}: keys are texts")
        return {
            name: _kept(value, f"{prefix}{name}.", left_out)
            for name, value in node.items()
            if f"{prefix}{name}" not in left_out
        }
    if isinstance(node, (list, tuple)):
        return [_kept(value, f"{prefix}[].", left_out) for value in node]
    return node + 0.0 if isinstance(node, float) else node  # -0.0 + 0.0 is 0.0
