"""What a training tells the tracking about itself, before it starts and when it is over."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from recexp import __version__
from recexp.reports import curves
from recexp.reports.console import RunSummary, ui_command
from recexp.storage.atomic import atomic_file
from recexp.tasks import lineage, result
from recexp.tasks.difference import flatten
from recexp.tasks.resume import Start
from recexp.tasks.session import Session
from recexp.tracking import names, provenance
from recexp.tracking.tracker import Recorder

#: Names of our own code: nobody compares runs by them.
_INNER = ("_target_", ".preflight")
CONFIG_ARTIFACT = "config.yaml"


def describe(session: Session, start: Start, recorder: Recorder) -> None:
    """Parameters, tags, the whole configuration, the data and the environment."""
    config, meta = names.scrubbed(session.config), session.events.meta
    recorder.params({key: value for key, value in flatten(config).items() if not key.endswith(_INNER)})
    recorder.tags(
        {
            "recexp.identity": start.identity,
            "recexp.protocol": protocol_hash(session.posed.protocol),
            "recexp.version": __version__,
            "data.fingerprint": meta.fingerprint,
            "data.name": meta.name,
            "data.synthetic": str(meta.synthetic).lower(),
            "data.licence": meta.licence,
            "mlflow.note.content": _note(session),
            **({"recexp.lineage": way} if (way := lineage.sentence(start.directory, session.config)) else {}),
            **provenance.facts(Path.cwd()),
        }
    )
    recorder.dataset(meta.name, meta.fingerprint, meta.origin, "train,eval")
    path = start.directory / CONFIG_ARTIFACT
    with atomic_file(path, "w") as stream:
        stream.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    _json(start.directory / "protocol.json", session.posed.protocol)
    for artifact in (path, start.directory / "protocol.json", *provenance.write_environment(start.directory)):
        recorder.artifact(artifact)
    rows = {f"data/malformed_{kind}": float(count) for kind, count in meta.malformed.items()}
    left_out = {f"data/left_out_{reason}": float(count) for reason, count in _left_out(session).items()}
    notes = {f"data/{what}": float(count) for what, count in meta.notes.items()}
    read = {"data/rows_read": float(meta.rows_read), "data/malformed_rows": sum(rows.values())}
    recorder.metrics({**read, **rows, **left_out, **notes}, 0)


def _left_out(session: Session) -> dict[str, int]:
    """What the dataset's recipe and the split leave out, by reason."""
    return {**session.events.meta.left_out, **session.posed.left_out}


def protocol_hash(protocol: dict[str, Any]) -> str:
    """Short name of what makes numbers comparable: equal hashes, comparable runs."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:16]


def _json(path: Path, value: Any) -> None:
    with atomic_file(path, "w") as stream:
        stream.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _note(session: Session) -> str:
    """A sentence for MLflow's run page."""
    config = session.config
    synthetic = " **The data is synthetic.**" if session.events.meta.synthetic else ""
    return (
        f"{config['model']['name']} on {config['dataset']['name']}, seed {session.settings.seed}.{synthetic} "
        f"Headline: {session.posed.headline}."
    )


def keep_result(session: Session, start: Start, recorder: Recorder, measured: result.Measured) -> None:
    """Write the result and the curves; whatever fails here leaves a run that has failed."""
    directory = start.directory
    recorder.flush()
    synthetic = session.events.meta.synthetic
    picture = curves.plot(
        curves.read_points(directory / "journal.jsonl"), directory / "curves.png", start.name, synthetic
    )
    recorder.artifact(picture)
    preliminary = result.Result(_headline(session, measured), summarise(session, directory, measured, {}, []))
    recorder.artifact(result.save(directory, preliminary))


def finish_run(session: Session, start: Start, recorder: Recorder, measured: result.Measured) -> result.Result:
    """End the run in the tracking, and put the table together, which now knows where everything lies."""
    directory = start.directory
    outcome = recorder.finish("FINISHED")
    places = {"MLflow": outcome.place} if outcome.place else {}
    if outcome.store:
        places["UI"] = ui_command(outcome.store)
    summary = summarise(session, directory, measured, places, list(outcome.notes))
    final = result.Result(_headline(session, measured), summary)
    result.save(directory, final)
    return final


def _headline(session: Session, measured: result.Measured) -> float | None:
    return measured.test.get(session.posed.headline.replace("val/", "test/"))


def summarise(
    session: Session, directory: Path, measured: result.Measured, places: dict[str, str], notes: list[str]
) -> RunSummary:
    """The table of a run."""
    config, meta = session.config, session.events.meta
    if measured.stopped_early:
        notes.append(f"Stopped early after {measured.updates} of {session.total_updates} updates.")
    way = lineage.sentence(directory, config) if directory.is_dir() else None
    if way:
        notes.append(f"This run was moved: {way}.")
    if meta.malformed:
        counts = ", ".join(f"{kind} {count}" for kind, count in meta.malformed.items())
        notes.append(f"Malformed rows were left out of the data: {counts}.")
    left_out = ", ".join(f"{why.replace('_', ' ')} {count:,}" for why, count in _left_out(session).items() if count)
    if left_out:
        notes.append(f"Left out by the recipe and the split: {left_out}.")
    if meta.verified is False:
        notes.append("The data's checksum is not the published one (dataset.verify=false).")
    return RunSummary(
        title={
            "model": config["model"]["name"],
            "dataset": config["dataset"]["name"],
            "device": session.device.description()["device.resolved"],
            "precision": f"{session.policy.word} ({session.policy.describe()})",
            "seed": str(session.settings.seed),
        },
        synthetic=meta.synthetic,
        metrics=result.metric_rows(measured, session.posed.explanations),
        best=measured.best,
        performance=measured.performance,
        seconds=measured.seconds,
        places={"run": str(directory), "checkpoint": str(measured.checkpoint), **places},
        notes=notes,
    )
