"""The checkpoint of a trained model: named by the user, or that of the very configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule

from recexp.config.identity import identity
from recexp.config.settings import Settings
from recexp.config.typed import settings as typed
from recexp.errors import CheckpointError, ConfigError
from recexp.tasks.command import composed_like, said
from recexp.tasks.session import Session
from recexp.tracking import run_directory
from recexp.training import checkpoint_file
from recexp.training.checkpoints import BEST, LAST


def with_checkpoint(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Path | None]:
    """The configuration and the checkpoint that ``ckpt`` names; None for the best or last of this configuration.

    A run, or a checkpoint in a run's directory, is taken as it was configured then, changed by what the command line
    says now.
    """
    settings = typed(config)
    if settings.ckpt in ("best", "last"):
        return config, None
    checkpoint = _named(settings)
    return composed_like(checkpoint.parent.parent, config), checkpoint


def _named(settings: Settings) -> Path:
    """The checkpoint of a file, a run's directory or an MLflow run id."""
    path = Path(settings.ckpt).expanduser()
    if path.is_file():
        return path.absolute()
    return _in(run_directory.resolve(Path(settings.paths.root).absolute(), settings.ckpt), BEST)


def of_configuration(session: Session) -> Path:
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


def load_state(module: LightningModule, checkpoint: Path) -> dict[str, Any]:
    """Put the weights of a checkpoint into a module.

    Returns:
        The whole checkpoint.

    Raises:
        CheckpointError: It cannot be read, or belongs to another network.
    """
    state = checkpoint_file.load(checkpoint)
    try:
        module.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{checkpoint} does not fit this configuration: {error}. Give the model's options of that run, or name the "
            "run itself: ckpt=DIRECTORY."
        ) from error
    return state
