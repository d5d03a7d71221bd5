"""Delivers a run's journal to MLflow: in order, in batches, and so that sending a batch twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from recexp import __version__
from recexp.tracking import journal, names
from recexp.tracking.delivered import Delivered, reject
from recexp.tracking.store import Store

T = TypeVar("T")
UUID_TAG = "recexp.run"
# One call takes 1000 entries in all.
_MAX_METRICS = names.MAX_METRICS_PER_BATCH - 2 * names.MAX_PARAMS_PER_BATCH
_FOR_GOOD = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}


class NotNow(Exception):
    """The store does not answer or cannot do it; try again later."""


class Never(Exception):
    """There is no use in going on: the run or its experiment was deleted in MLflow."""


class Rejected(Exception):
    """MLflow refuses this entry and always will."""


@dataclass
class Batch:
    """Entries for one call."""

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def take(self, event: journal.Event) -> bool:
        """Add the event's entries; False, and nothing added, where they do not fit."""
        if event["e"] == "metrics":
            if self.metrics and len(self.metrics) + len(event["m"]) > _MAX_METRICS:
                return False
            self.metrics += [Metric(key, value, event["t"], event["step"]) for key, value in event["m"].items()]
            return True
        mine = self.params if event["e"] == "params" else self.tags
        if len(mine.keys() | event[event["e"]].keys()) > names.MAX_PARAMS_PER_BATCH:
            return False
        mine.update(event[event["e"]])
        return True

    def entries(self) -> list[Metric | Param | RunTag]:
        """All of them."""
        return [
            *self.metrics,
            *(Param(key, value) for key, value in self.params.items()),
            *(RunTag(key, value) for key, value in self.tags.items()),
        ]


class Delivery:
    """Takes a run's journal from where it was left to its end."""

    def __init__(self, run_dir: Path, target: Store) -> None:
        """Look at what is delivered already; asks the server nothing."""
        self.run_dir = run_dir
        self._target = target
        self._done = Delivered.load(run_dir)
        self._client = MlflowClient(tracking_uri=target.uri)

    def step(self) -> bool:
        """Deliver what fits into one call, and note it on disk.

        Returns:
            False where nothing was left to deliver.

        Raises:
            NotNow: The store is not available; nothing was noted, so that the same is sent again.
            Never: The run is gone from MLflow.
        """
        batch, offset = Batch(), self._done.offset
        for event, behind in journal.read(self.run_dir / journal.JOURNAL_FILE, offset):
            if event["e"] in ("metrics", "params", "tags"):
                if not batch.take(event):
                    break
            elif batch.entries():
                break
            else:
                self._or_reject(event)
                offset = behind
                break
            offset = behind
        if offset == self._done.offset:
            return False
        self._send(batch.entries())
        self._done.offset = offset
        self._done.save(self.run_dir)
        return True

    def _send(self, entries: list[Metric | Param | RunTag]) -> None:
        """Send entries; where MLflow refuses some, find them by halving, so that the others arrive."""
        if not entries:
            return
        if len(entries) > names.MAX_METRICS_PER_BATCH:
            self._send(entries[: names.MAX_METRICS_PER_BATCH])
            self._send(entries[names.MAX_METRICS_PER_BATCH :])
            return
        try:
            self._ask(
                lambda: self._client.log_batch(
                    self._run_id,
                    metrics=[entry for entry in entries if isinstance(entry, Metric)],
                    params=[entry for entry in entries if isinstance(entry, Param)],
                    tags=[entry for entry in entries if isinstance(entry, RunTag)],
                )
            )
        except Rejected as refusal:
            if len(entries) == 1:
                self._reject(dict(entries[0]), str(refusal))
                return
            half = len(entries) // 2
            self._send(entries[:half])
            self._send(entries[half:])

    def _single(self, event: journal.Event) -> None:
        handlers: dict[str, Callable[[journal.Event], None]] = {
            "create": self._create,
            "resume": lambda _: self._client.update_run(self._run_id, status="RUNNING"),
            "status": self._end,
            "artifact": self._artifact,
            "dataset": self._dataset,
        }
        handler = handlers.get(event["e"])
        if handler is None:
            raise Rejected(f"a journal line of kind {event['e']!r} is not understood")
        self._ask(lambda: handler(event))

    def _or_reject(self, event: journal.Event) -> None:
        try:
            self._single(event)
        except Rejected as refusal:
            if event["e"] == "create":
                raise Never(str(refusal)) from refusal
            self._reject(event, str(refusal))

    def _reject(self, entry: dict[str, Any], reason: str) -> None:
        reject(self.run_dir, entry, reason)
        self._done.rejected += 1

    @property
    def _run_id(self) -> str:
        if self._done.run_id is None:
            raise Never("the journal does not begin with the creation of a run")
        return self._done.run_id

    def _create(self, event: journal.Event) -> None:
        """Create the run, unless an earlier attempt whose answer was lost has done so."""
        experiment = self._experiment(event["experiment"])
        twins = self._twins(experiment, event["uuid"])
        if twins:
            run = twins[0]
        else:
            self._done.creations += 1
            self._done.save(self.run_dir)
            tags = {
                UUID_TAG: event["uuid"],
                "mlflow.source.name": f"recexp {__version__}",
                "mlflow.source.type": "LOCAL",
            }
            run = self._client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
        self._done.run_id, self._done.experiment_id = run.info.run_id, experiment

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=self._target.artifact_location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise Never(
                f"the experiment {name!r} was deleted in MLflow: restore it (mlflow experiments restore), or choose "
                "another with tracking.experiment=NAME"
            )
        return str(found.experiment_id)

    def _twins(self, experiment: str, uuid: str) -> list[Run]:
        query = f"tags.`{UUID_TAG}` = '{uuid}'"
        return list(self._client.search_runs([experiment], query, order_by=["attributes.start_time ASC"]))

    def _end(self, event: journal.Event) -> None:
        self._client.set_terminated(self._run_id, event["status"], event["time"])
        if self._done.creations > 1 and self._done.experiment_id:
            uuid = self._client.get_run(self._run_id).data.tags[UUID_TAG]
            for twin in self._twins(self._done.experiment_id, uuid):
                if twin.info.run_id != self._run_id:
                    self._client.delete_run(twin.info.run_id)

    def _artifact(self, event: journal.Event) -> None:
        path = self.run_dir / event["path"]
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), event["folder"] or None)
        elif path.is_file():
            self._client.log_artifact(self._run_id, str(path), event["folder"] or None)
        else:
            raise Rejected(f"the file {path} is not there any more")

    def _dataset(self, event: journal.Event) -> None:
        dataset = Dataset(
            name=event["name"][: names.MAX_DATASET_NAME_LENGTH],
            digest=event["digest"][: names.MAX_DIGEST_LENGTH],
            source_type="recexp",
            source=f"{event['source']} (fingerprint {event['digest']})",
        )
        context = InputTag("mlflow.data.context", event["context"])
        self._client.log_inputs(self._run_id, datasets=[DatasetInput(dataset, [context])])

    def _ask(self, call: Callable[[], T]) -> T:
        """Make a call and sort its failures by what to do about them."""
        try:
            return call()
        except (Rejected, Never, NotNow):
            raise
        except MlflowException as error:
            reason = names.scrub(str(error))[:1000]
            if error.error_code not in _FOR_GOOD:
                raise NotNow(reason) from error
            self._check_run()
            raise Rejected(reason) from error
        except Exception as error:  # whatever else the client raises must not cost a record
            raise NotNow(names.scrub(f"{type(error).__name__}: {error}")[:1000]) from error

    def _check_run(self) -> None:
        """A refusal means something only where the run itself is well."""
        if self._done.run_id is None:
            return
        try:
            stage = self._client.get_run(self._done.run_id).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise Never(f"the run {self._done.run_id} is not in this MLflow store any more") from error
            raise NotNow(names.scrub(str(error))[:1000]) from error
        if stage != "active":
            raise Never(f"the run {self._done.run_id} was deleted in MLflow; restore it there to deliver the rest")
