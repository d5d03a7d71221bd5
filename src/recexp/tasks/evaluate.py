"""``task=evaluate``: test a checkpoint again, perhaps on another device or under other protocols."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.config.identity import identity
from recexp.config.settings import Settings
from recexp.config.typed import settings as typed
from recexp.devices import ddp
from recexp.devices.build import assert_placement, explained
from recexp.errors import CheckpointError, ConfigError
from recexp.reports.console import show
from recexp.reports.progress import Progress
from recexp.tasks import result
from recexp.tasks.command import composed_like, said
from recexp.tasks.records import summarise
from recexp.tasks.session import Session, data_and_device, make_trainer, open_session
from recexp.tracking import run_directory
from recexp.training import checkpoint_file
from recexp.training.checkpoints import BEST, LAST
from recexp.training.signals import stop_requests


def run(config: Mapping[str, Any]) -> float | None:
    """Evaluate on the test users.

    A run, or a checkpoint in a run's directory, is evaluated as it was configured then, changed by what the
    command line says now.

    Returns:
        The headline metric.
    """
    settings = typed(config)
    checkpoint = None if settings.ckpt in ("best", "last") else _named(settings)
    if checkpoint is not None:
        config = composed_like(checkpoint.parent.parent, config)
        settings = typed(config)
    with stop_requests(), Progress(settings.trainer.progress) as display:
        prepared = data_and_device(config, display.task)
        with explained(prepared[1]):
            session = open_session(config, *prepared)
            checkpoint = checkpoint or _of_configuration(session)
            measured = _evaluate(session, checkpoint)
    if ddp.local_rank() == 0:
        show(summarise(session, checkpoint.parent.parent, measured, {}, []))
    return measured.test.get(session.posed.headline.replace("val/", "test/"))


def _named(settings: Settings) -> Path:
    """The checkpoint of a file, a run's directory or an MLflow run id."""
    path = Path(settings.ckpt).expanduser()
    if path.is_file():
        return path.absolute()
    return _in(run_directory.resolve(Path(settings.paths.root).absolute(), settings.ckpt), BEST)


def _of_configuration(session: Session) -> Path:
    """The best or last checkpoint of the latest run of this very configuration."""
    settings = session.settings
    own = identity(session.config, session.events.meta.fingerprint)
    root = Path(settings.paths.root).absolute()
    directory = run_directory.find(root, identity=own, unfinished=False)
    if directory is None:
        words = " ".join(word for word in said() if not word.startswith(("task=", "ckpt=")))
        raise ConfigError(
            [
                f"ckpt={settings.ckpt}: no run of this configuration is in {root / 'runs'}. "
                f"Train it first (python -m recexp {words}), or name a run: ckpt=DIRECTORY or ckpt=MLFLOW_RUN_ID."
            ]
        )
    return _in(directory, BEST if settings.ckpt == "best" else LAST)


def _in(directory: Path, name: str) -> Path:
    folder = directory / "checkpoints"
    for candidate in (folder / name, folder / LAST):
        if candidate.is_file():
            return candidate
    raise CheckpointError(f"{directory} holds no checkpoint yet: {folder} is empty.")


def _evaluate(session: Session, checkpoint: Path) -> result.Measured:
    began = time.time()
    state = checkpoint_file.load(checkpoint)
    module, data = session.posed.module, session.posed.data
    try:
        module.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{checkpoint} does not fit this configuration: {error}. Give the model's options of that run, or name the "
            "run itself: ckpt=DIRECTORY."
        ) from error
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
