"""The words of a run's command, kept with it, so that it can be composed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from recexp.config.compose import compose
from recexp.storage.atomic import write_json
from recexp.tracking.names import scrubbed

COMMAND_FILE = "command.json"
#: Words about where and how, which the new command decides alone.
_OWN = ("task", "ckpt", "resume", "paths.", "tracking", "device", "precision", "log_level", "trainer.progress", "debug")


def said() -> list[str]:
    """The words of this process's command; none where recexp is used as a library."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def keep(directory: Path) -> None:
    """Write them into a run's directory, without credentials."""
    write_json(directory / COMMAND_FILE, scrubbed(said()))


def composed_like(directory: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a run, changed by the words of this command; ``config`` where no run is kept there."""
    path = directory / COMMAND_FILE
    if not path.is_file():
        return config
    words = {_key(word): word for word in json.loads(path.read_text("utf-8")) if not _key(word).startswith(_OWN)}
    words.update({_key(word): word for word in said()})
    return compose(list(words.values()))


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
