"""``task=sync``: deliver what runs have recorded and the tracking server has not received yet."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.config.typed import settings as typed
from recexp.errors import TrackingError
from recexp.tracking import run_directory, sender, store
from recexp.tracking.outcome import Outcome, outcome


def run(config: Mapping[str, Any]) -> None:
    """Go through the runs in ``paths.root``, deliver what is left of each, and say a line about it.

    Raises:
        TrackingError: Something is left still.
    """
    settings = typed(config)
    root = Path(settings.paths.root).expanduser().absolute()
    wanted = store.resolve(settings.tracking.uri, root)
    tracked = left = 0
    silent: set[str] = set()
    for state in run_directory.runs(root):
        before = outcome(state.path)
        if before.backend == "off":
            continue
        tracked += 1
        if before.complete:
            continue
        line, remains = _deliver(state, before, wanted, silent)
        left += remains
        sys.stdout.write(f"{state.label}/{state.path.name}: {line}\n")
        sys.stdout.flush()
    if left:
        raise TrackingError(f"{left} of {tracked} runs in {root / 'runs'} are not delivered yet; see above. Try again.")
    sys.stdout.write(f"{tracked} runs in {root / 'runs'}: nothing is left to deliver\n")


def _deliver(state: run_directory.RunState, before: Outcome, wanted: store.Store, silent: set[str]) -> tuple[str, bool]:
    """What to say about a run, and whether something of it is left. ``silent`` collects stores that failed."""
    if run_directory.is_alive(state.path):
        return f"left alone, process {state.pid} on {state.host} is still running it", False
    target = store.of_run(state.path, wanted)
    reason = sender.drain(state.path, target, attempts=1 if target.uri in silent else 3)
    after = outcome(state.path)
    if reason is None:
        refused = f"; {after.notes[-1]}" if after.rejected else ""
        return f"delivered {before.undelivered} points, {before.waiting} records, to {target.shown}{refused}", False
    if after.waiting == before.waiting:
        silent.add(target.uri)
    return f"{after.undelivered} points, {after.waiting} records left: {reason}", True
