"""The training process's side of tracking: everything goes to the run's journal, nothing waits for a server."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from recexp.config.settings import TrackingSettings
from recexp.errors import TrackingError
from recexp.tracking import names, run_directory, store
from recexp.tracking.journal import Journal
from recexp.tracking.outcome import Outcome, outcome
from recexp.tracking.sending import Sender

_log = logging.getLogger(__name__)
_WRITE_EVERY_S = 1.0
_TIMING = ("perf/", "sys/")


class Recorder(Protocol):
    """What a run may record. ``Tracker`` does so; ``Silent`` does nothing (processes of rank above 0)."""

    def params(self, mapping: Mapping[str, Any]) -> None:
        """Record parameters by their dotted names."""

    def tags(self, mapping: Mapping[str, Any]) -> None:
        """Record tags; a later value replaces an earlier one."""

    def metrics(self, mapping: Mapping[str, float], step: int) -> None:
        """Record one value of each metric at ``step``."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or folder."""

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Record a dataset as an input of the run."""

    def flush(self) -> None:
        """Return when everything recorded so far is on the disk."""

    def finish(self, status: str) -> Outcome:
        """Record the end of the run and wait a bounded time for the delivery."""


class Silent:
    """Records nothing."""

    def params(self, mapping: Mapping[str, Any]) -> None:
        """Do nothing."""

    def tags(self, mapping: Mapping[str, Any]) -> None:
        """Do nothing."""

    def metrics(self, mapping: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def finish(self, status: str) -> Outcome:
        """Do nothing."""
        return Outcome(backend="off")


class Tracker:
    """Journals a run and lets a separate process deliver the journal to MLflow.

    Opening the directory of an interrupted run continues its journal: points that it already holds are dropped, so
    that nothing is recorded twice. The caller holds the run's claim (``run_directory.claim``).
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        target: store.Store | None,
        experiment: str = "recexp",
        run_name: str | None = None,
        drain_timeout: float = 20.0,
    ) -> None:
        """Open the journal and start the sender.

        Args:
            run_dir: A claimed run directory.
            target: Where to deliver to; None keeps the journal only (``tracking.backend=off``).
            experiment: MLflow experiment of the run.
            run_name: Name shown in MLflow; default ``<label>-<attempt>``.
            drain_timeout: Seconds that ``finish`` waits for the sender.
        """
        self.run_dir = Path(run_dir)
        self._drain_timeout = drain_timeout
        self._journal = Journal(self.run_dir)
        history = self._journal.history
        self._marks, self._recorded, self._params = history.marks, history.values, history.params
        self._warned: set[str] = set()
        self._begin(experiment, run_name)
        self._sender = Sender(self.run_dir, target, drain_timeout) if target is not None else None
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_now_and_then, name="journal-writer", daemon=True)
        self._writer.start()
        atexit.register(self._flush_quietly)

    @classmethod
    def open(cls, run_dir: Path, settings: TrackingSettings, root: Path, *, run_name: str | None = None) -> Tracker:
        """The tracker that ``settings`` ask for; a resumed run stays in the store where it began.

        Args:
            run_dir: A claimed run directory.
            settings: The ``tracking`` node.
            root: ``paths.root``.
            run_name: Default of ``settings.run_name``.
        """
        target = store.of_run(run_dir, store.resolve(settings.uri, root)) if settings.backend == "mlflow" else None
        return cls(
            run_dir,
            target=target,
            experiment=settings.experiment,
            run_name=settings.run_name or run_name,
            drain_timeout=settings.drain_timeout,
        )

    def _begin(self, experiment: str, run_name: str | None) -> None:
        state = run_directory.state(self.run_dir)
        stamp = {"uuid": state.uuid, "time": _milliseconds()}
        if self._journal.history.created:
            self._journal.append({"e": "resume", **stamp})
        else:
            named = {"experiment": experiment, "name": run_name or f"{state.label}-{state.attempt:03d}"}
            self._journal.append({"e": "create", **stamp, **names.scrubbed(named)})
            self._journal.append({"e": "tags", "tags": {"recexp.directory": str(self.run_dir)}})
        self._journal.flush()

    def params(self, mapping: Mapping[str, Any]) -> None:
        """Record parameters. A value too long for MLflow goes whole into an artifact that the parameter names.

        A resumed run may repeat its parameters; one that changed since becomes a tag ``changed.<name>``, because a
        parameter of MLflow is fixed for ever.
        """
        fresh, changed = {}, {}
        for key, value in mapping.items():
            text = self._short(key, value, "params", names.MAX_PARAM_LENGTH)
            if key not in self._params:
                fresh[key] = text
            elif self._params[key] != text:
                changed[f"changed.{key}"] = value
        self._params.update(fresh)
        self._append_chunks("params", fresh)
        if changed:
            self.tags(changed)

    def tags(self, mapping: Mapping[str, Any]) -> None:
        """Record tags; a later value replaces an earlier one. Credentials in addresses are removed."""
        tags = {key: self._short(key, value, "tags", names.MAX_TAG_LENGTH) for key, value in mapping.items()}
        self._append_chunks("tags", tags)

    def _append_chunks(self, kind: str, mapping: dict[str, str]) -> None:
        items = list(mapping.items())
        for start in range(0, len(items), names.MAX_PARAMS_PER_BATCH):
            self._journal.append({"e": kind, kind: dict(items[start : start + names.MAX_PARAMS_PER_BATCH])})

    def _short(self, key: str, value: Any, folder: str, limit: int) -> str:
        text = names.scrub(str(value))
        if len(text) <= limit:
            return text
        path = self.run_dir / folder / (key.replace("/", "_") + ".txt")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        self.artifact(path, folder)
        return f"({len(text)} characters: artifact {folder}/{path.name})"

    def metrics(self, mapping: Mapping[str, float], step: int) -> None:
        """Record one value of each metric at ``step``; costs microseconds.

        A point at or before the last step of its metric is dropped: it is there already. Where the value differs from
        the recorded one (timings aside), a warning says once that the run is not deterministic.

        Raises:
            ValueError: MLflow would refuse a metric's name.
        """
        marks = self._marks
        points = {}
        for key, value in mapping.items():
            mark = marks.get(key)
            if mark is None:
                names.check_name(key)
            elif step <= mark:
                self._compare(key, step, float(value))
                continue
            marks[key] = step
            points[key] = float(value)
        if points:
            self._journal.append({"e": "metrics", "t": _milliseconds(), "step": int(step), "m": points})

    def _compare(self, key: str, step: int, value: float) -> None:
        recorded = self._recorded.get((key, step))
        if recorded is None or key.startswith(_TIMING) or _same(recorded, value) or "deterministic" in self._warned:
            return
        self._warned.add("deterministic")
        _log.warning(
            "This run is not deterministic: %s at step %d was %r before the interruption and is %r now. "
            "The recorded value is kept.",
            key,
            step,
            recorded,
            value,
        )

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or a folder; it is read when it is sent, so it must stay where it is.

        Args:
            path: Absolute, or relative to the working directory.
            folder: Folder of the run's artifacts to put it in.
        """
        path = Path(path).absolute()
        if path.is_relative_to(self.run_dir.absolute()):
            path = path.relative_to(self.run_dir.absolute())
        self._journal.append({"e": "artifact", "path": str(path), "folder": folder})

    def dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Record a dataset as an input of the run.

        MLflow keeps one input for each pair of name and digest, and ``MAX_DIGEST_LENGTH`` characters of a digest: the
        whole of it stands in the input's source.

        Args:
            name: The dataset's name.
            digest: Its fingerprint.
            source: Where it came from, for a person.
            context: ``train``, ``eval`` or both, comma-separated.
        """
        event = {"name": name, "digest": digest, "source": names.scrub(source), "context": context}
        if (name, digest) not in self._journal.history.inputs:
            self._journal.history.inputs.add((name, digest))
            self._journal.append({"e": "dataset", **event})

    def flush(self) -> None:
        """Return when everything recorded so far is on the disk. Call it before a checkpoint is written.

        Raises:
            TrackingError: The disk does not take it.
        """
        self._journal.flush(durable=True)

    def _write_now_and_then(self) -> None:
        while not self._closing.wait(_WRITE_EVERY_S):
            self._flush_quietly()

    def _flush_quietly(self) -> None:
        try:
            self._journal.flush()
        except TrackingError as error:
            if "disk" not in self._warned:
                self._warned.add("disk")
                _log.warning("%s", error)

    def finish(self, status: str) -> Outcome:
        """Record the end of the run, and wait at most ``drain_timeout`` seconds for the delivery.

        Args:
            status: FINISHED, FAILED or KILLED.

        Returns:
            What was delivered, and how to deliver the rest.

        Raises:
            TrackingError: The disk does not take the last records.
        """
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise ValueError(f"status {status!r}: FINISHED, FAILED or KILLED")
        atexit.unregister(self._flush_quietly)
        self._closing.set()
        self._writer.join()
        self._journal.append({"e": "status", "status": status, "time": _milliseconds()})
        try:
            self._journal.close()
            run_directory.update(self.run_dir, status=status, ended=run_directory.now())
        finally:
            if self._sender is not None:
                self._sender.finish(self._drain_timeout)
        result = outcome(self.run_dir) if self._sender is not None else Outcome(backend="off", ended=True)
        if status != "FINISHED":
            for sentence in result.notes:
                _log.warning("%s", sentence)
        return result


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _same(first: float, second: float) -> bool:
    """Whether two floats are the same number, the sign of zero included; NaN equals NaN."""
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) and math.isnan(second)
    return first == second and math.copysign(1.0, first) == math.copysign(1.0, second)
