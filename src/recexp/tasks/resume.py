"""Decides where a training starts: a fresh run, or an interrupted one from its newest checkpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recexp.config.identity import excluded
from recexp.config.settings import Settings
from recexp.errors import ConfigError
from recexp.storage.atomic import write_json
from recexp.tasks import command
from recexp.tracking import run_directory
from recexp.tracking.names import scrubbed
from recexp.training.checkpoints import newest

_log = logging.getLogger(__name__)
CONFIG_FILE = "config.json"
#: What a run may be continued with though it is another: only its end moves.
EXTENSIBLE = frozenset({"trainer.max_epochs", "trainer.max_steps", "trainer.early_stop_patience"})


@dataclass(frozen=True)
class Start:
    """Where to begin.

    Attributes:
        directory: Of the run.
        identity: Of the run.
        name: Shown in MLflow.
        checkpoint: To go on from, None for the beginning.
        finished: There is nothing left to do.
    """

    directory: Path
    identity: str = ""
    name: str = ""
    checkpoint: Path | None = None
    finished: bool = False


def find_start(config: Mapping[str, Any], settings: Settings, identity: str) -> Start:
    """Follow ``resume``: ``false``, ``true``, or the run that it names.

    Raises:
        ConfigError: It names no run, or one of another configuration.
        CheckpointError: All of the run's checkpoints are damaged.
    """
    root = Path(settings.paths.root).absolute()
    name = scrubbed(settings.tracking.run_name) or f"{_label(config, identity)}-s{settings.seed}"
    wanted = str(settings.resume).lower()
    if wanted == "false":
        return _fresh(config, root, identity, name)
    if wanted == "true":
        directory = run_directory.find(root, identity=identity, unfinished=False)
        if directory is None:
            _log.info("resume=true: there is no run of this configuration yet; a new one starts")
            return _fresh(config, root, identity, name)
    else:
        directory = run_directory.resolve(root, settings.resume)
        _check_same(config, directory, identity)
    state = run_directory.state(directory)
    if state.finished and state.identity == identity:
        return Start(directory, identity, name, finished=True)
    if state.identity != identity:
        run_directory.update(directory, identity=identity)
        write_json(directory / CONFIG_FILE, scrubbed(config))
    checkpoint = newest(directory / "checkpoints")
    _log.info("going on with %s from %s", directory, checkpoint.name if checkpoint else "its beginning")
    return Start(directory, identity, name, checkpoint)


def _label(config: Mapping[str, Any], identity: str) -> str:
    return f"{config['model']['name']}-{config['dataset']['name']}-{identity[:8]}"


def _fresh(config: Mapping[str, Any], root: Path, identity: str, name: str) -> Start:
    directory = run_directory.create(root, _label(config, identity), identity=identity)
    write_json(directory / CONFIG_FILE, scrubbed(config))
    command.keep(directory)
    return Start(directory, identity, name)


def _check_same(config: Mapping[str, Any], directory: Path, identity: str) -> None:
    if run_directory.state(directory).identity == identity:
        return
    then = flatten(json.loads((directory / CONFIG_FILE).read_text("utf-8")))
    now = flatten(config)
    ignored = excluded(config) | EXTENSIBLE | {key for key in then if key.startswith("task.")}
    differing = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    changed = [key for key in differing if key not in ignored]
    if not changed and not EXTENSIBLE & set(differing):
        raise ConfigError([f"resume={directory}: that run was trained on other data (another fingerprint)."])
    if changed:
        raise ConfigError(
            [
                f"resume={directory}: {key} was {then.get(key)!r} in that run and is {now.get(key)!r} now. "
                f"A resumed run may differ only in {', '.join(sorted(EXTENSIBLE))}."
                for key in changed
            ]
        )


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flatten(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }
