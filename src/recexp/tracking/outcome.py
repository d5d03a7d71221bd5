"""How far the delivery of a run has come: the sender's own record, and the summary that is shown at the end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from recexp.storage.atomic import write_json
from recexp.tracking.journal import JOURNAL_FILE, count_points
from recexp.tracking.run_directory import DELIVERED_FILE

REJECTED_FILE = "rejected.jsonl"
SENDER_LOG = "sender.log"
SYNC_COMMAND = "python -m recexp task=sync"


@dataclass
class Record:
    """What the sender remembers of a run (``delivered.json``).

    Attributes:
        offset: Bytes of the journal that are delivered.
        run_id: The MLflow run.
        experiment_id: Its experiment.
        creating: A creation was asked for whose answer is not known; the run is searched for before it is repeated.
        doubtful: There was such a creation: a second run of the same uuid may appear late.
        status: The status that MLflow has.
        points: Metric points that were delivered.
        rejected: Events that were refused for good (``rejected.jsonl``).
        error: The last trouble, None when all went well since.
        store: Address of the store, without credentials.
    """

    offset: int = 0
    run_id: str | None = None
    experiment_id: str | None = None
    creating: bool = False
    doubtful: bool = False
    status: str | None = None
    points: int = 0
    rejected: int = 0
    error: str | None = None
    store: str | None = None

    @classmethod
    def load(cls, run_dir: Path) -> Record:
        """Read the record; a run of which nothing was delivered has an empty one."""
        try:
            document = json.loads((run_dir / DELIVERED_FILE).read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        return cls(**{key: value for key, value in document.items() if key in cls.__dataclass_fields__})

    def save(self, run_dir: Path) -> None:
        """Write the record atomically."""
        write_json(run_dir / DELIVERED_FILE, asdict(self))


@dataclass(frozen=True)
class Outcome:
    """What became of a run's record."""

    backend: str = "mlflow"
    run_id: str | None = None
    store: str | None = None
    points: int = 0
    undelivered: int = 0
    pending: bool = False
    rejected: int = 0
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Whether MLflow has everything."""
        return not self.pending and not self.rejected

    def describe(self) -> str:
        """One or two sentences for a person; says how to go on where something is left."""
        if self.backend == "off":
            return "not tracked in MLflow (tracking.backend=off)"
        text = f"MLflow run {self.run_id or '(not created yet)'} in {self.store}"
        if self.pending:
            because = f" ({self.error})" if self.error else ""
            text += f"; {self.undelivered} points are not delivered yet{because}. Deliver them with: {SYNC_COMMAND}"
        if self.rejected:
            text += f"; {self.rejected} entries were refused, see {REJECTED_FILE} in the run's directory"
        return text


def outcome(run_dir: Path, *, backend: str = "mlflow", store: str | None = None) -> Outcome:
    """Compare the journal with what was delivered of it."""
    record = Record.load(run_dir)
    journal = run_dir / JOURNAL_FILE
    size = journal.stat().st_size if journal.exists() else 0
    return Outcome(
        backend=backend,
        run_id=record.run_id,
        store=record.store or store,
        points=record.points,
        undelivered=count_points(journal, record.offset),
        pending=backend != "off" and record.offset < size,
        rejected=record.rejected,
        error=record.error,
    )
