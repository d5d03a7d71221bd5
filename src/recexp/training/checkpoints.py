"""Saves the last and the best state, stops early or on a signal, and keeps what an exact resume needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import distributed

from recexp import __version__
from recexp.errors import CheckpointError
from recexp.problems.module import ProblemModule
from recexp.storage.atomic import sweep_orphans
from recexp.training import checkpoint_file
from recexp.training.signals import Interrupted, StopRequest

_log = logging.getLogger(__name__)
LAST, PREVIOUS, BEST = "last.ckpt", checkpoint_file.PREVIOUS, "best.ckpt"


@dataclass(frozen=True)
class CheckpointSettings:
    """Where and when.

    Attributes:
        folder: Of the checkpoints.
        monitor: Metric that picks the best.
        every_n_steps: Save in the middle of an epoch, too.
        patience: Validations without improvement before training stops; None never stops it.
        min_delta: What counts as an improvement.
        facts: Plain values kept in each checkpoint (identity, configuration).
        lower_is_better: Of the monitored metric, less is better.
    """

    folder: Path
    monitor: str
    every_n_steps: int | None
    patience: int | None
    min_delta: float
    facts: dict[str, Any]
    lower_is_better: bool = False


@dataclass(frozen=True)
class RandomState:
    """How the device's random state is read and put back."""

    get: Callable[[], dict[str, Any]]
    set: Callable[[dict[str, Any]], None]


class Checkpoints(Callback):
    """The one place that saves. Whatever happens, a complete checkpoint stays on disk.

    ``last.ckpt`` is written after every epoch (and every N updates), the one before is kept as
    ``previous.ckpt`` for the case that the disk damages the last; ``best.ckpt`` is a hard link or copy.
    """

    def __init__(
        self,
        settings: CheckpointSettings,
        random: RandomState,
        request: StopRequest,
        before_save: Callable[[], None],
        after_save: Callable[[pl.Trainer], None] = lambda _: None,
    ) -> None:
        """Save into ``settings.folder``.

        Args:
            settings: Where and when.
            random: Of the device.
            request: Looked at between blocks.
            before_save: Called first: what was measured up to here must be on disk before the state is.
            after_save: Called last: a clock leaves out what the saving took.
        """
        self.after_save = after_save
        self.settings, self.random, self.request, self.before_save = settings, random, request, before_save
        self.best: float | None = None
        self.best_step: int | None = None
        self.waited = 0
        self.saved_step = 0
        self._improved = False
        self._loaded_random: dict[str, Any] | None = None
        settings.folder.mkdir(parents=True, exist_ok=True)
        sweep_orphans(settings.folder, older_than_s=0)

    @property
    def last_path(self) -> Path:
        """Of the newest state."""
        return self.settings.folder / LAST

    @property
    def best_path(self) -> Path:
        """Of the best state; the last one where no validation ran."""
        best = self.settings.folder / BEST
        return best if best.exists() else self.last_path

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited, "random": self.random.get()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up again; the random state once everything else is built."""
        self.best, self.best_step, self.waited = state_dict["best"], state_dict["best_step"], state_dict["waited"]
        self._loaded_random = state_dict["random"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Name the format and the run."""
        made = {"format": checkpoint_file.FORMAT, "version": __version__, "step": trainer.global_step}
        checkpoint["recexp"] = {**made, **self.settings.facts}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for a safe point."""
        self.saved_step = trainer.global_step
        if self._loaded_random is not None:
            self.random.set(self._loaded_random)
            self._loaded_random = None
            if self.best_step == trainer.global_step and trainer.is_global_zero:
                # Killed between the two files: the best state is the very one that was loaded.
                checkpoint_file.link(self.last_path, self.settings.folder / BEST)
        self.request.install()
        self.request.deferring = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save where it is due, and stop where a signal came."""
        every = self.settings.every_n_steps
        due = every is not None and trainer.global_step - self.saved_step >= every
        last_of_epoch = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if last_of_epoch:
            # Validation comes first; the end of the epoch saves and stops.
            return
        asked = self._asked(trainer)
        if due or asked is not None:
            self._save(trainer)
        self._stop(asked)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See whether the epoch was the best."""
        assert isinstance(pl_module, ProblemModule)
        value = pl_module.results.get(self.settings.monitor)
        if value is None:
            legal = ", ".join(sorted(name for name in pl_module.results if name.startswith("val/")))
            raise CheckpointError(f"trainer.monitor={self.settings.monitor} is not computed. Legal: {legal}.")
        # A value that is not a number never compares as better, so a diverged epoch cannot become the best.
        none_yet = self.best is None or math.isnan(self.best)
        self._improved = none_yet or self._gain(value) > self.settings.min_delta
        if self._improved:
            self.best, self.best_step, self.waited = value, trainer.global_step, 0
        else:
            self.waited += 1
        if self.settings.patience is not None and self.waited >= self.settings.patience:
            _log.info("stopping early: %s has not improved for %d validations", self.settings.monitor, self.waited)
            trainer.should_stop = True

    def _gain(self, value: float) -> float:
        assert self.best is not None
        return self.best - value if self.settings.lower_is_better else value - self.best

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and stop where a signal came."""
        self._save(trainer)
        if self._improved and trainer.is_global_zero:
            checkpoint_file.link(self.last_path, self.settings.folder / BEST)
        self._improved = False
        self._stop(self._asked(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Signals stop at once again."""
        self.request.deferring = False

    def _asked(self, trainer: pl.Trainer) -> int | None:
        """The signal that any of the processes got: they stop together or not at all."""
        if trainer.world_size == 1:
            return self.request.number
        number = torch.tensor(self.request.number or 0, device=trainer.strategy.root_device)
        distributed.all_reduce(number, distributed.ReduceOp.MAX)
        return int(number) or None

    def _stop(self, asked: int | None) -> None:
        if asked is not None:
            raise Interrupted(asked, "Everything up to here is saved: resume=true goes on.")

    def _save(self, trainer: pl.Trainer) -> None:
        self.before_save()
        trainer.save_checkpoint(self.last_path)
        self.saved_step = trainer.global_step
        self.after_save(trainer)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole: the last, or else the one before. None if there is none.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged.
    """
    reasons = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            checkpoint_file.verify(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if reasons:
            _log.warning("%s Using %s, one save earlier.", reasons[-1], path)
        return path
    if reasons:
        raise CheckpointError(" ".join(reasons) + " Start a fresh run with resume=false.")
    return None
