"""How far a run's journal has been delivered: kept on disk after every batch, and what became of it in words."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recexp.storage.atomic import write_json
from recexp.tracking.run_directory import DELIVERED_FILE

REJECTED_FILE = "rejected.jsonl"
SENDER_FILE = "sender.json"
_log = logging.getLogger(__name__)


@dataclass
class Delivered:
    """What of a journal MLflow has.

    Attributes:
        run_id: The MLflow run, None before it exists.
        experiment_id: Its experiment.
        offset: Bytes of the journal that are delivered.
        creations: How often the creation of the run was tried; above 1 there may be an empty twin.
        rejected: Entries that MLflow refused for good.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    offset: int = 0
    creations: int = 0
    rejected: int = 0

    @classmethod
    def load(cls, run_dir: Path) -> Delivered:
        """The state on disk. A lost or damaged file means nothing was delivered: sending again does no harm."""
        try:
            document = json.loads((run_dir / DELIVERED_FILE).read_text("utf-8"))
            return cls(**{key: document[key] for key in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, run_dir: Path) -> None:
        """Replace the state on disk, atomically."""
        write_json(run_dir / DELIVERED_FILE, asdict(self))


def reject(run_dir: Path, entry: Mapping[str, Any], reason: str) -> None:
    """Keep an entry that MLflow refused for good, with the reason."""
    with (run_dir / REJECTED_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"entry": entry, "reason": reason}, default=str) + "\n")


def note(run_dir: Path, pid: int, state: str, error: str | None = None) -> None:
    """Say what the sender is doing: ``starting``, ``ready``, ``failing`` (with the error), ``stopped`` or ``done``."""
    try:
        write_json(run_dir / SENDER_FILE, {"pid": pid, "state": state, "error": error})
    except OSError as failure:
        _log.warning("cannot note the sender's state: %s", failure)


def noted(run_dir: Path) -> dict[str, Any]:
    """What the sender said last; empty if nothing."""
    try:
        document = json.loads((run_dir / SENDER_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
