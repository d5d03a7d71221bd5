"""How the processes of a data parallel training learn where the first one's run is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from recexp.errors import RecexpError
from recexp.storage.atomic import write_json

#: Set by the first process for those that it starts.
RUN_DIRECTORY = "RECEXP_RUN_DIRECTORY"
_PATIENCE_S = 120.0


def announce(directory: Path, root: Path) -> None:
    """Tell the others: through the environment, or through a file where torchrun started all of them."""
    os.environ[RUN_DIRECTORY] = str(directory)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        write_json(_note(root), {"directory": str(directory)})


def ask(root: Path) -> Path:
    """The first process's run.

    Raises:
        RecexpError: It did not come so far in two minutes.
    """
    if RUN_DIRECTORY in os.environ:
        return Path(os.environ[RUN_DIRECTORY])
    deadline = time.monotonic() + _PATIENCE_S
    while not _note(root).exists():
        if time.monotonic() > deadline:
            raise RecexpError(f"process 0 has made no run directory in {_PATIENCE_S:.0f} s; see its messages.")
        time.sleep(0.1)
    return Path(json.loads(_note(root).read_text("utf-8"))["directory"])


def leave(root: Path) -> None:
    """Remove the note."""
    _note(root).unlink(missing_ok=True)


def _note(root: Path) -> Path:
    """One file for each launch: torchrun's process is the parent of all processes of this machine."""
    return root / "runs" / f".meeting-{os.getppid()}-{os.environ.get('MASTER_PORT', '')}.json"
