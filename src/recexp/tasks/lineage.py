"""Runs that changed device or precision on their way: found, marked, and never taken for one that did not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recexp.tasks.difference import differing, is_place
from recexp.tracking import run_directory
from recexp.tracking.run_directory import RunState
from recexp.training import checkpoint_file

CONFIG_FILE = "config.json"


def configured(state: RunState) -> str | None:
    """The identity of the configuration that a run was last continued with."""
    found = state.extra.get("configured") or state.identity
    return None if found is None else str(found)


def latest(config: Mapping[str, Any], root: Path, identify: Callable[[Mapping[str, Any]], str]) -> Path | None:
    """The newest run that differs from a configuration at most in its device and precision.

    A finished one counts only where it was last continued with this very configuration: there is nothing left to do.
    """
    found, identity = None, identify(config)
    for run in run_directory.runs(root):
        if (
            (run.finished and configured(run) != identity)
            or run.status == "CREATED"
            or (found and (found.started or "") > (run.started or ""))
        ):
            continue
        try:
            then = json.loads((run.path / CONFIG_FILE).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if configured(run) == identify(then) and all(is_place(key) for key in differing(then, config)):
            found = run
    return found.path if found else None


def extend(directory: Path, config: Mapping[str, Any], identity: str, checkpoint: Path | None) -> str:
    """Note that a run goes on with another configuration.

    Args:
        directory: Of the run, whose ``config.json`` is still the old one.
        config: The new one.
        identity: Of the new one.
        checkpoint: From which the run goes on.

    Returns:
        The run's identity from now on. It is that of the configuration alone where only the end moved, or where nothing
        had been computed yet; otherwise it depends on the whole way.
    """
    state = run_directory.state(directory)
    then = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
    way = list(state.extra.get("lineage") or [])
    if checkpoint is not None and any(map(is_place, differing(then, config))):
        step = int(checkpoint_file.load(checkpoint)["global_step"])
        way.append({"until": step, "on": place(then), "identity": configured(state), "at": run_directory.now()})
    whole = identity if not way else _hash([*((leg["until"], leg["identity"]) for leg in way), identity])
    run_directory.update(directory, identity=whole, configured=identity, lineage=way)
    return whole


def place(config: Mapping[str, Any]) -> str:
    """Device and precision in a word."""
    return f"{config['device']['name']} {config['precision']['name']}"


def sentence(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The way of a run in words, None where it stayed in one place."""
    way = run_directory.state(directory).extra.get("lineage")
    if not way:
        return None
    legs = ", then ".join(f"{leg['on']} until update {leg['until']}" for leg in way)
    return f"{legs}, then {place(config)}"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
