"""The directory of a run: allocated once, claimed by one living process, found again by identity or reference."""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recexp.errors import ConfigError, TrackingError
from recexp.storage.atomic import write_json

STATUSES = ("CREATED", "RUNNING", "FINISHED", "FAILED", "KILLED")
STATE_FILE = "run.json"
DELIVERED_FILE = "delivered.json"
_CLAIM_FILE = "alive.lock"
_CLAIM_PATIENCE_S = 2.0


@dataclass(frozen=True)
class RunState:
    """What ``run.json`` says about a run, joined with the MLflow run that the sender made for it."""

    path: Path
    uuid: str
    label: str
    attempt: int
    status: str
    identity: str | None = None
    pid: int | None = None
    host: str | None = None
    created: str | None = None
    started: str | None = None
    ended: str | None = None
    mlflow_run_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the run came to its planned end."""
        return self.status == "FINISHED"


class Claim:
    """The right of one living process to write into a run directory; it ends with the process."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock

    def release(self) -> None:
        """Give the directory back."""
        self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def create(root: Path, label: str, *, identity: str | None = None, **extra: Any) -> Path:
    """Allocate ``root/runs/<label>/<NNN>``, never the same for two processes.

    Args:
        root: ``paths.root``.
        label: Folder name of all attempts, such as ``attrec-ml1m-0a1b2c3d``.
        identity: The run's identity; ``find`` looks for it.
        extra: JSON values to keep in ``run.json`` beside the state.

    Raises:
        TrackingError: The folder cannot be written.
    """
    folder = Path(root).absolute() / "runs" / (re.sub(r"[^\w.\-]+", "-", label).strip("-.") or "run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _next_attempt(folder)
        document = {
            "uuid": uuid.uuid4().hex,
            "label": folder.name,
            "attempt": int(path.name),
            "status": "CREATED",
            "identity": identity,
            "created": now(),
            **extra,
        }
        write_json(path / STATE_FILE, document)
    except OSError as error:
        raise TrackingError(
            f"Cannot make a run directory in {folder}: {error}. Choose a writable folder with paths.root=PATH."
        ) from error
    return path


def _next_attempt(folder: Path) -> Path:
    number = max((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), default=0)
    while True:
        number += 1
        path = folder / f"{number:03d}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path


def claim(run_dir: Path) -> Claim:
    """Take the directory for this process, note pid, host and start, and set the state to RUNNING.

    Raises:
        TrackingError: A living process holds the run.
    """
    held = hold(run_dir, _CLAIM_PATIENCE_S)
    if held is None:
        raise _held(run_dir)
    update(run_dir, status="RUNNING", pid=os.getpid(), host=socket.gethostname(), started=now(), ended=None)
    return held


def hold(run_dir: Path, patience_s: float) -> Claim | None:
    """The claim without any change of the state; None while a living process has it."""
    lock = FileLock(run_dir / _CLAIM_FILE, thread_local=False)
    try:
        lock.acquire(timeout=patience_s, poll_interval=0.05)
    except Timeout:
        return None
    return Claim(run_dir, lock)


def is_alive(run_dir: Path) -> bool:
    """Whether a living process holds the run (this one included)."""
    lock = FileLock(run_dir / _CLAIM_FILE, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def refuse_alive(run_dir: Path) -> None:
    """Make sure that no living process writes into a run.

    Raises:
        TrackingError: One does.
    """
    if is_alive(run_dir):
        raise _held(run_dir)


def _held(run_dir: Path) -> TrackingError:
    holder = state(run_dir)
    return TrackingError(
        f"Run {run_dir} is being written by process {holder.pid} on {holder.host} since {holder.started}. "
        "Wait for it, stop it, or start a fresh run with resume=false."
    )


def update(run_dir: Path, **changes: Any) -> None:
    """Rewrite ``run.json`` atomically with some values changed. Only the process that holds the claim may do so."""
    document = json.loads((run_dir / STATE_FILE).read_text("utf-8"))
    document.update(changes)
    if document["status"] not in STATUSES:
        raise ValueError(f"status {document['status']!r}: one of {', '.join(STATUSES)}")
    write_json(run_dir / STATE_FILE, document)


def state(run_dir: Path) -> RunState:
    """Read the run's state.

    Raises:
        TrackingError: The directory holds no readable ``run.json``.
    """
    try:
        document = json.loads((run_dir / STATE_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrackingError(f"{run_dir} is no run directory: {STATE_FILE} cannot be read ({error}).") from error
    known = {key: document.pop(key) for key in list(document) if key in RunState.__dataclass_fields__}
    known.pop("path", None)
    known["mlflow_run_id"] = _mlflow_run_id(run_dir)
    return RunState(path=run_dir, extra=document, **known)


def _mlflow_run_id(run_dir: Path) -> str | None:
    try:
        run_id = json.loads((run_dir / DELIVERED_FILE).read_text("utf-8")).get("run_id")
    except (OSError, ValueError):
        return None
    return str(run_id) if run_id else None


def runs(root: Path) -> Iterator[RunState]:
    """Every run under ``root/runs``, by label and then by attempt. Folders that are no runs are passed over."""
    for label in sorted(_folders(Path(root).absolute() / "runs")):
        for attempt in sorted((path for path in _folders(label) if path.name.isdecimal()), key=lambda p: int(p.name)):
            try:
                yield state(attempt)
            except TrackingError:
                continue


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []


def find(root: Path, *, identity: str, unfinished: bool = True) -> Path | None:
    """The latest attempt with this identity, or None. A run that never started to write is passed over.

    Args:
        root: ``paths.root``.
        identity: As given to ``create``.
        unfinished: Only runs that did not come to their end (interrupted, killed, failed, or still alive).
    """
    found = None
    for run in runs(root):
        if run.identity == identity and run.status != "CREATED" and not (unfinished and run.finished):
            found = run.path
    return found


def resolve(root: Path, reference: str) -> Path:
    """The run directory that ``reference`` names: a directory, a path below ``root/runs``, or an MLflow run id.

    Raises:
        ConfigError: There is no such run.
    """
    for candidate in (Path(reference).expanduser(), Path(root) / reference, Path(root) / "runs" / reference):
        if (candidate / STATE_FILE).is_file():
            return candidate.absolute()
    known = list(runs(root))
    for run in known:
        if reference in (run.mlflow_run_id, run.uuid):
            return run.path
    latest = ", ".join(f"{run.label}/{run.path.name}" for run in known[-5:]) or "none yet"
    raise ConfigError(
        [
            f"No run {reference!r} under {Path(root).absolute() / 'runs'}: give a run's directory, LABEL/NNN or its "
            f"MLflow run id. Runs here: {latest}."
        ]
    )
