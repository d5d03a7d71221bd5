"""What became of a run's record: how much of it MLflow has, in numbers and words; and the end of a dead run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recexp.tracking import delivered, journal, run_directory, store

SYNC_COMMAND = "python -m recexp task=sync"


@dataclass(frozen=True)
class Outcome:
    """How far the delivery of a run has come.

    Attributes:
        backend: ``mlflow`` or ``off``.
        run_id: The MLflow run, None before it exists.
        experiment_id: Its experiment.
        store: Address of the store, without credentials.
        waiting: Journal entries that are not delivered.
        undelivered: Metric points among them.
        rejected: Entries that MLflow refused for good.
        ended: Whether the journal holds the run's end.
        error: The sender's last trouble.
    """

    backend: str = "mlflow"
    run_id: str | None = None
    experiment_id: str | None = None
    store: str | None = None
    waiting: int = 0
    undelivered: int = 0
    rejected: int = 0
    ended: bool = False
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Whether MLflow has everything, the end of the run included."""
        return self.ended and not self.waiting

    @property
    def place(self) -> str | None:
        """Where the run is in MLflow."""
        if self.backend == "off":
            return None
        if self.run_id and self.store and self.store.startswith(("http://", "https://")):
            return f"{self.store.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"run {self.run_id or '(not created yet)'} in {self.store}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know or do."""
        said = []
        if self.backend != "off" and self.waiting:
            because = f" ({self.error})" if self.error else ""
            said.append(
                f"{self.undelivered} points ({self.waiting} records) are not in MLflow yet{because}; "
                f"nothing is lost. Deliver them with: {SYNC_COMMAND}"
            )
        if self.rejected:
            said.append(f"{self.rejected} records were refused by MLflow, see {delivered.REJECTED_FILE} of the run")
        return tuple(said)

    def describe(self) -> str:
        """Place and notes in one line."""
        return "; ".join(filter(None, (self.place, *self.notes))) or "not tracked in MLflow"


def outcome(run_dir: Path) -> Outcome:
    """Compare a run's journal with what was delivered of it."""
    target = store.recorded(run_dir)
    done = delivered.Delivered.load(run_dir)
    waiting = undelivered = 0
    ended = False
    for event, behind in journal.read(run_dir / journal.JOURNAL_FILE):
        if event["e"] in ("create", "resume", "status"):
            ended = event["e"] == "status"
        if behind > done.offset:
            waiting += 1
            undelivered += len(event["m"]) if event["e"] == "metrics" else 0
    return Outcome(
        backend="off" if target is None else "mlflow",
        run_id=done.run_id,
        experiment_id=done.experiment_id,
        store=None if target is None else target.shown,
        waiting=waiting,
        undelivered=undelivered,
        rejected=done.rejected,
        ended=ended,
        error=delivered.noted(run_dir).get("error"),
    )


def bury(run_dir: Path, patience_s: float) -> bool:
    """Write the end of a run whose process died into its journal and its state: KILLED.

    Args:
        run_dir: A run directory.
        patience_s: Seconds to wait for the process (or children that outlive it) to let go.

    Returns:
        False where a living process has the run.
    """
    claim = run_directory.hold(run_dir, patience_s)
    if claim is None:
        return False
    with claim:
        record = journal.Journal(run_dir)
        last, final, moment = "status", "KILLED", 0
        for event, _ in journal.read(record.path):
            if event["e"] in ("create", "resume", "status"):
                last, final = event["e"], event.get("status", "KILLED")
            moment = max(moment, int(event.get("t") or event.get("time") or 0))
        if last != "status":
            record.append({"e": "status", "status": final, "time": moment})
        record.close()
        if run_directory.state(run_dir).status == "RUNNING":
            run_directory.update(run_dir, status=final)
    return True
