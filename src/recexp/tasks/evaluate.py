"""``task=evaluate``: test a checkpoint again, perhaps on another device or under other protocols."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.config.typed import settings as typed
from recexp.devices import ddp
from recexp.devices.build import assert_placement, explained
from recexp.reports.console import show
from recexp.reports.progress import Progress
from recexp.tasks import result
from recexp.tasks.records import summarise
from recexp.tasks.session import Session, data_and_device, make_trainer, open_session
from recexp.tasks.trained import load_state, of_configuration, with_checkpoint
from recexp.training.signals import stop_requests


def run(config: Mapping[str, Any]) -> float | None:
    """Evaluate on the test users.

    A run, or a checkpoint in a run's directory, is evaluated as it was configured then, changed by what the
    command line says now.

    Returns:
        The headline metric.
    """
    config, checkpoint = with_checkpoint(config)
    settings = typed(config)
    with stop_requests(), Progress(settings.trainer.progress) as display:
        prepared = data_and_device(config, display.task)
        with explained(prepared[1]):
            session = open_session(config, *prepared)
            checkpoint = checkpoint or of_configuration(session)
            measured = _evaluate(session, checkpoint)
    if ddp.local_rank() == 0:
        show(summarise(session, checkpoint.parent.parent, measured, {}, []))
    return measured.test.get(session.posed.headline.replace("val/", "test/"))


def _evaluate(session: Session, checkpoint: Path) -> result.Measured:
    began = time.time()
    module, data = session.posed.module, session.posed.data
    state = load_state(module, checkpoint)
    floor = session.posed.floor(session.device.root) if session.posed.floor else {}
    trainer = make_trainer(session, [])
    trainer.test(module, datamodule=data, verbose=False)
    assert_placement(module.to(session.device.root), session.device, session.policy)
    test = {name: value for name, value in module.results.items() if name.startswith("test/")}
    step = int(state["global_step"])
    return result.Measured(
        test=test,
        floor=floor,
        best=(session.posed.headline, None, step),
        performance={},
        seconds={"total": time.time() - began},
        checkpoint=checkpoint,
        stopped_early=False,
        updates=step,
    )
