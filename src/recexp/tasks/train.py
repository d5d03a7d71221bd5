"""``task=train``: train the model on the dataset, keep the best and the last checkpoint, report the test result."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl

from recexp.config.identity import identity
from recexp.config.typed import settings as typed
from recexp.devices.build import assert_placement, explained
from recexp.errors import RecexpError
from recexp.reports.console import show
from recexp.reports.progress import Progress
from recexp.tasks import meeting, result, watchers
from recexp.tasks.records import describe, finish_run, keep_result
from recexp.tasks.resume import Start, find_start
from recexp.tasks.session import Session, data_and_device, make_trainer, open_session
from recexp.tracking import run_directory, store
from recexp.tracking.tracker import Recorder, Silent, Tracker
from recexp.training import checkpoint_file
from recexp.training.checkpoints import Checkpoints, CheckpointSettings, RandomState
from recexp.training.reporting import Placement, Reporting
from recexp.training.signals import Interrupted, StopRequest, stop_requests
from recexp.training.throughput import Throughput

_log = logging.getLogger(__name__)


def run(config: Mapping[str, Any]) -> float | None:
    """Train; with ``resume``, go on with an interrupted run.

    Returns:
        The headline metric on the test users.
    """
    settings = typed(config)
    root = Path(settings.paths.root).absolute()
    if settings.tracking.backend != "off":
        store.resolve(settings.tracking.uri, root)
    with stop_requests() as request:
        with Progress(settings.trainer.progress if _rank() == 0 else "off") as display:
            prepared = data_and_device(config, display.task)
            with explained(prepared[1]):
                outcome = _run_session(open_session(config, *prepared), root, display, request)
        if isinstance(outcome, result.Result):
            show(outcome.summary)
            return outcome.headline
    return outcome


def _run_session(session: Session, root: Path, display: Progress, request: StopRequest) -> result.Result | float | None:
    """Train as the first process or as one of the others, unless it has all been done before."""
    settings = session.settings
    display.monitor = settings.trainer.monitor or session.posed.headline
    if _rank() > 0:
        directory, checkpoint = meeting.ask(root)
        _fit(session, Start(directory, checkpoint=checkpoint), Silent(), display, request)
        return None
    fingerprint = session.events.meta.fingerprint
    start = find_start(
        session.config,
        settings,
        lambda one: identity(one, fingerprint),
        session.device.kind,
        updates=session.posed.updates,
    )
    if start.finished:
        _log.info("this run is finished: %s", start.directory)
        return result.show_again(start.directory)
    return _tracked(session, start, root, display, request)


def _rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _tracked(session: Session, start: Start, root: Path, display: Progress, request: StopRequest) -> result.Result:
    """Train within a run of the tracking, which gets its true end whatever happens."""
    settings = session.settings
    with run_directory.claim(start.directory):
        meeting.announce(start.directory, start.checkpoint, root)
        recorder: Recorder = Tracker.open(start.directory, settings.tracking, root, run_name=start.name)
        status = "FAILED"
        try:
            describe(session, start, recorder)
            measured = _fit(session, start, recorder, display, request)
            keep_result(session, start, recorder, measured)
            status = "FINISHED"
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            display.stop()
            meeting.leave(root)
            if status != "FINISHED":
                _end(start.directory, recorder, status)
        return finish_run(session, start, recorder, measured)


def _end(directory: Path, recorder: Recorder, status: str) -> None:
    """End a run that did not come to its end. What fails here must not hide the reason."""
    try:
        recorder.finish(status)
    except (RecexpError, OSError) as error:
        _log.warning("The end of the run could not be recorded: %s", error)
        with suppress(OSError):
            run_directory.update(directory, status=status, ended=run_directory.now())


def _fit(
    session: Session, start: Start, recorder: Recorder, display: Progress, request: StopRequest
) -> result.Measured:
    """Train, load the best state, and test it."""
    began = time.time()
    device, posed = session.device, session.posed
    floor = posed.floor(device.root) if posed.floor and _rank() == 0 else {}
    device.reset_peak_memory()
    throughput = Throughput(device.synchronize, device.peak_memory_bytes)
    checkpoints = _checkpoints(session, start, recorder, request, throughput)

    def check(module: pl.LightningModule, products: Any) -> None:
        arithmetic = {"recexp.arithmetic": posed.module.arithmetic} if posed.module.arithmetic else {}
        recorder.tags({**assert_placement(module, device, session.policy, products), **arithmetic})

    watching = watchers.build(session, start.directory, recorder)
    posed.module.watchers = watching.watchers
    reporting = Reporting(recorder, display, throughput, session.total_updates, watching.counters)
    callbacks = [reporting, throughput, Placement(check), *watching.callbacks, checkpoints]
    trainer = make_trainer(session, callbacks)
    resume_from = str(start.checkpoint) if start.checkpoint else None
    trainer.fit(posed.module, datamodule=posed.data, ckpt_path=resume_from, weights_only=True)
    trained = time.time()
    state = checkpoint_file.load(checkpoints.best_path)
    posed.module.load_state_dict(state["state_dict"])
    trainer.test(posed.module, datamodule=posed.data, verbose=False)
    test = {name: value for name, value in posed.module.results.items() if name.startswith("test/")}
    if not test:
        raise RecexpError("the test computed no metric")
    step = int(state["global_step"])
    performance = throughput.metrics()
    if throughput.first_step_at is not None:
        performance["perf/time_to_first_step_s"] = throughput.first_step_at - psutil.Process().create_time()
    recorder.metrics(test, trainer.global_step)
    return result.Measured(
        test=test,
        floor=floor,
        best=(checkpoints.settings.monitor, checkpoints.best, step) if posed.validates else None,
        performance=performance,
        seconds={"training": trained - began, "total": time.time() - psutil.Process().create_time()},
        checkpoint=checkpoints.best_path,
        stopped_early=trainer.global_step < session.total_updates,
        updates=trainer.global_step,
    )


def _checkpoints(
    session: Session, start: Start, recorder: Recorder, request: StopRequest, throughput: Throughput
) -> Checkpoints:
    trainer = session.settings.trainer
    monitor = trainer.monitor or session.posed.headline
    settings = CheckpointSettings(
        folder=start.directory / "checkpoints",
        monitor=monitor,
        every_n_steps=trainer.checkpoint_every_n_steps,
        patience=trainer.early_stop_patience,
        min_delta=trainer.early_stop_min_delta,
        facts={"identity": start.identity, "fingerprint": session.events.meta.fingerprint},
        lower_is_better=monitor in session.posed.lower_is_better,
    )
    random = RandomState(session.device.rng_state, session.device.set_rng_state)
    return Checkpoints(settings, random, request, recorder.flush, throughput.reset_clock)
