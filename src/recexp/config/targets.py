"""Import of a dotted ``_target_``: only names of this package, never anything else that can be imported."""

from __future__ import annotations

import importlib
import re
from typing import Any

from recexp.errors import ConfigError

ALLOWED = "recexp."
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")


def refusal(dotted: object) -> str | None:
    """Why this ``_target_`` is not built, or None when it is on the allow-list. Nothing is imported."""
    if not isinstance(dotted, str) or not _DOTTED.fullmatch(dotted) or not dotted.startswith(ALLOWED):
        return f"_target_ '{dotted}' is not allowed: only names that begin with {ALLOWED} are built."
    if any(part.startswith("__") for part in dotted.split(".")):
        return f"_target_ '{dotted}' is not allowed: no part of it may begin with two underscores."
    return None


def load(dotted: str) -> Any:
    """Import the module and return the attribute, e.g. ``recexp.tasks.train.run``.

    Raises:
        ConfigError: not on the allow-list, or defined elsewhere, or there is no such module or name.
    """
    problem = refusal(dotted)
    if problem is not None:
        raise ConfigError([problem])
    module_name, _, attribute = dotted.rpartition(".")
    try:
        value = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # a dependency of ours is missing: that is not the configuration's fault
        raise ConfigError([f"_target_ '{dotted}': there is no module {module_name}."]) from error
    except AttributeError as error:
        raise ConfigError([f"_target_ '{dotted}': {module_name} has no {attribute}."]) from error
    if not str(getattr(value, "__module__", "")).startswith(ALLOWED):
        # recexp.storage.atomic.os would otherwise reach anything that a module of ours imports
        raise ConfigError([f"_target_ '{dotted}' is not allowed: {attribute} is not defined in recexp."])
    return value
