"""Decides where a training starts: a fresh run, or an interrupted one from its newest checkpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recexp.config.settings import Settings
from recexp.errors import ConfigError
from recexp.storage.atomic import write_json
from recexp.tasks import command, lineage
from recexp.tasks.difference import EXTENSIBLE, differing, flatten, is_place
from recexp.tracking import run_directory
from recexp.tracking.names import scrubbed
from recexp.training import checkpoint_file
from recexp.training.checkpoints import newest

_log = logging.getLogger(__name__)


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


def find_start(
    config: Mapping[str, Any],
    settings: Settings,
    identify: Callable[[Mapping[str, Any]], str],
    kind: str,
    *,
    updates: int,
) -> Start:
    """Follow ``resume``: ``false``, ``true``, or the run that it names.

    Args:
        config: Composed.
        settings: The same, typed.
        identify: The identity of a configuration with the present data.
        kind: Of the device that this process has, which ``device=auto`` does not say.
        updates: Of an epoch.

    Raises:
        ConfigError: It names no run, one of another configuration, or one that ended where it cannot be lengthened.
        CheckpointError: All of the run's checkpoints are damaged.
    """
    root, identity = Path(settings.paths.root).absolute(), identify(config)
    name = scrubbed(settings.tracking.run_name) or f"{_label(config, identity)}-s{settings.seed}"
    wanted = str(settings.resume).lower()
    if wanted == "false":
        return _fresh(config, root, identity, name, kind)
    if wanted == "true":
        directory = lineage.latest(config, root, identify) if settings.resume_elsewhere else None
        directory = directory or run_directory.find(root, identity=identity, unfinished=False)
        if directory is None:
            _log.info("resume=true: there is no run of this configuration yet; a new one starts")
            return _fresh(config, root, identity, name, kind)
    else:
        directory = run_directory.resolve(root, settings.resume)
        _check_same(config, directory, identify, elsewhere=settings.resume_elsewhere)
    state = run_directory.state(directory)
    same = lineage.configured(state) == identity
    if state.finished and same:
        return Start(directory, state.identity or identity, name, finished=True)
    run_directory.refuse_alive(directory)
    checkpoint = newest(directory / "checkpoints")
    before = lineage.kind(state) or kind
    if before != kind and checkpoint is not None and not settings.resume_elsewhere:
        raise ConfigError([_changed(directory, "device", before, kind)])
    if same and before == kind:
        identity = state.identity or identity
    else:
        if checkpoint is not None:
            _check_end(directory, checkpoint, settings, updates)
        identity = lineage.extend(directory, config, identity, checkpoint, kind)
        write_json(directory / lineage.CONFIG_FILE, scrubbed(config))
    _log.info("going on with %s from %s", directory, checkpoint.name if checkpoint else "its beginning")
    return Start(directory, identity, name, checkpoint)


def _label(config: Mapping[str, Any], identity: str) -> str:
    return f"{config['model']['name']}-{config['dataset']['name']}-{identity[:8]}"


def _fresh(config: Mapping[str, Any], root: Path, identity: str, name: str, kind: str) -> Start:
    directory = run_directory.create(root, _label(config, identity), identity=identity, kind=kind)
    write_json(directory / lineage.CONFIG_FILE, scrubbed(config))
    command.keep(directory)
    return Start(directory, identity, name)


def _check_same(
    config: Mapping[str, Any], directory: Path, identify: Callable[[Mapping[str, Any]], str], *, elsewhere: bool
) -> None:
    recorded = lineage.configured(run_directory.state(directory))
    if recorded == identify(config):
        return
    then = json.loads((directory / lineage.CONFIG_FILE).read_text("utf-8"))
    if recorded != identify(then):
        raise ConfigError(
            [
                f"resume={directory}: that run was trained on other data, or with settings that this version of recexp "
                "does not have. Start afresh with resume=false."
            ]
        )
    changed = [key for key in differing(then, config) if not (elsewhere and is_place(key))]
    if changed:
        old, new = flatten(then), flatten(config)
        raise ConfigError([_changed(directory, key, old.get(key), new.get(key)) for key in changed])


def _check_end(directory: Path, checkpoint: Path, settings: Settings, updates: int) -> None:
    """Lightning takes an epoch that a limit has cut short for a whole one, and would leave its rest out."""
    then = json.loads((directory / lineage.CONFIG_FILE).read_text("utf-8"))["trainer"]["max_steps"]
    longer = then is not None and (settings.trainer.max_steps or then + 1) > then
    if longer and then % updates and int(checkpoint_file.load(checkpoint)["global_step"]) == then:
        whole = then // updates * updates
        earlier = f"{whole:,} or " if whole else ""
        raise ConfigError(
            [
                f"resume={directory}: that run ended at its limit trainer.max_steps={then}, within an epoch of "
                f"{updates:,} updates, and cannot go on from there as if it had not. Start afresh with resume=false; a "
                f"run that ends with an epoch (trainer.max_steps={earlier}{whole + updates:,}, or trainer.max_epochs) "
                "can be lengthened."
            ]
        )


def _changed(directory: Path, key: str, then: Any, now: Any) -> str:
    way = ", resume_elsewhere=true allows it and marks the run" if is_place(f"{key}.") or is_place(key) else ""
    return (
        f"resume={directory}: {key} was {then!r} in that run and is {now!r} now{way}. "
        f"A resumed run may differ only in {', '.join(sorted(EXTENSIBLE))}."
    )
