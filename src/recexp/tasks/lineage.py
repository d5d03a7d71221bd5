"""Runs that changed device or precision on their way: found, marked, and never taken for one that did not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from recexp.errors import ConfigError
from recexp.tasks.difference import differing, is_place
from recexp.tracking import run_directory
from recexp.tracking.run_directory import RunState
from recexp.training import checkpoint_file

CONFIG_FILE = "config.json"


def configured(state: RunState) -> str | None:
    """The identity of the configuration that a run was last continued with."""
    found = state.extra.get("configured") or state.identity
    return None if found is None else str(found)


def kind(state: RunState) -> str | None:
    """The kind of device that a run was last computed on."""
    found = state.extra.get("kind")
    return None if found is None else str(found)


def latest(config: Mapping[str, Any], root: Path, identify: Callable[[Mapping[str, Any]], str]) -> Path | None:
    """The newest interrupted run that differs from a configuration at most in its device and precision.

    A finished one counts only where it has been moved to this very configuration: there is nothing left to do.

    Raises:
        ConfigError: In a multirun, whose jobs would take each other's runs.
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError(["resume_elsewhere=true with resume=true would mix the runs of a multirun: name the run."])
    found, identity = None, identify(config)
    for run in run_directory.runs(root):
        done = run.finished and not (run.extra.get("lineage") and configured(run) == identity)
        if done or run.status == "CREATED" or run_directory.is_alive(run.path):
            continue
        if found and (found.started or "") > (run.started or ""):
            continue
        try:
            then = json.loads((run.path / CONFIG_FILE).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if configured(run) == identify(then) and all(is_place(key) for key in differing(then, config)):
            found = run
    return found.path if found else None


def extend(directory: Path, config: Mapping[str, Any], identity: str, checkpoint: Path | None, now_on: str) -> str:
    """Note that a run goes on with another configuration.

    Args:
        directory: Of the run, whose ``config.json`` is still the old one.
        config: The new one.
        identity: Of the new one.
        checkpoint: From which the run goes on.
        now_on: Kind of the device that it goes on with.

    Returns:
        The run's identity from now on. It is that of the configuration alone where only the end moved, or where nothing
        had been computed yet; otherwise it depends on the whole way.
    """
    state = run_directory.state(directory)
    then = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
    way = list(state.extra.get("lineage") or [])
    moved = kind(state) not in (None, now_on) or any(map(is_place, differing(then, config)))
    if checkpoint is not None and moved:
        step = int(checkpoint_file.load(checkpoint)["global_step"])
        way.append(
            {"until": step, "on": place(then, kind(state)), "identity": configured(state), "at": run_directory.now()}
        )
    whole = identity if not way else _hash([*((leg["until"], leg["identity"]) for leg in way), identity])
    run_directory.update(directory, identity=whole, configured=identity, lineage=way, kind=now_on)
    return whole


def place(config: Mapping[str, Any], on: str | None) -> str:
    """Device and precision in a word; ``on`` is the kind of device that the configuration's word came to."""
    return f"{on or config['device']['name']} {config['precision']['name']}"


def sentence(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The way of a run in words, None where it stayed in one place."""
    state = run_directory.state(directory)
    way = state.extra.get("lineage")
    if not way:
        return None
    legs = ", then ".join(f"{leg['on']} until update {leg['until']}" for leg in way)
    return f"{legs}, then {place(config, kind(state))}"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
