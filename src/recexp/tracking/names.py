"""What MLflow accepts as names and lengths, and how credentials are kept out of what is recorded."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_NAME_LENGTH = 250
MAX_DIGEST_LENGTH = 36
MAX_DATASET_NAME_LENGTH = 500
MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100

_LEGAL = re.compile(r"[/\w.\- :]+")
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/?#]*@")


def check_name(name: str) -> None:
    """Check that MLflow will take ``name`` as the name of a metric, parameter or tag.

    Raises:
        ValueError: The name has an illegal character (such as ``@``), is too long or reads as another path.
    """
    if not _LEGAL.fullmatch(name):
        raise ValueError(f"{name!r} is no legal metric name: letters, digits, and _ - . : / or spaces only (no '@')")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"{name[:40]!r}... is {len(name)} characters long: a metric name has at most {MAX_NAME_LENGTH}"
        )
    if posixpath.normpath(name) != name or name.startswith(("/", "..")) or name == ".":
        raise ValueError(f"{name!r} is no legal metric name: read as a path it would be {posixpath.normpath(name)!r}")


def scrub(text: str) -> str:
    """Remove ``user:password@`` from every address in ``text``."""
    return _CREDENTIALS.sub(r"\g<scheme>", text)


def scrubbed(value: Any) -> Any:
    """The same nested mappings and lists, with ``scrub`` applied to every text."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {key: scrubbed(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrubbed(child) for child in value]
    return value
