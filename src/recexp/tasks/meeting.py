"""How the processes of a data parallel training learn where the first one's run is, and where it begins."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from recexp.errors import RecexpError
from recexp.storage.atomic import write_json

#: Set by the first process for those that it starts.
RUN = "RECEXP_RUN"
_PATIENCE_S = 120.0


def announce(directory: Path, checkpoint: Path | None, root: Path) -> None:
    """Tell the others: through the environment, or through a file where torchrun started all of them."""
    run = {"directory": str(directory), "checkpoint": str(checkpoint) if checkpoint else None}
    os.environ[RUN] = json.dumps(run)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        write_json(_note(root), run)


def ask(root: Path) -> tuple[Path, Path | None]:
    """The first process's run, and the checkpoint that it goes on from.

    Raises:
        RecexpError: It did not come so far in two minutes.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while RUN not in os.environ and not _note(root).exists():
        if time.monotonic() > deadline:
            raise RecexpError(f"process 0 has made no run directory in {_PATIENCE_S:.0f} s; see its messages.")
        time.sleep(0.1)
    run = json.loads(os.environ[RUN] if RUN in os.environ else _note(root).read_text("utf-8"))
    return Path(run["directory"]), Path(run["checkpoint"]) if run["checkpoint"] else None


def leave(root: Path) -> None:
    """Remove the note."""
    _note(root).unlink(missing_ok=True)


def _note(root: Path) -> Path:
    """One file for each launch: torchrun's process is the parent of all processes of this machine."""
    return root / "runs" / f".meeting-{os.getppid()}-{os.environ.get('MASTER_PORT', '')}.json"
