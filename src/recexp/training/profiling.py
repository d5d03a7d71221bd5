"""Drives a profile through the updates of a training, whatever the device's profiler is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import Tensor

from recexp.devices.profiling import Profile
from recexp.problems.watch import WatchedUpdate


class Profiling(Callback):
    """Begins with the first update that this process trains, and marks each update in the trace by its number."""

    def __init__(self, make: Callable[[int, int], Profile], length: int) -> None:
        """Prepare; nothing is started yet.

        Args:
            make: Makes the profile that begins with an update, in the process of a rank.
            length: Updates after which all cycles of the profile are over.
        """
        self.make, self._left, self._rank = make, length, 0
        self._profile: Profile | None = None
        self._mark: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn which process this is."""
        self._rank = trainer.global_rank

    def before(self, update: WatchedUpdate) -> None:
        """Begin the profile, and the mark of the update."""
        if self._left <= 0:
            return
        if self._profile is None:
            self._profile = self.make(update.number, self._rank)
            self._profile.start()
        self._mark = torch.profiler.record_function(f"update {update.number}")
        self._mark.__enter__()

    def after_backward(self, update: WatchedUpdate, loss: Tensor) -> None:
        """Nothing to do."""

    def after(self, update: WatchedUpdate) -> None:
        """Tell the profile that an update is over."""
        if self._profile is None:
            return
        self._unmark()
        self._profile.step()
        self._left -= 1
        if self._left <= 0:
            self._stop()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what was profiled in a training that was shorter."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep what was profiled up to here."""
        self._stop()

    def _stop(self) -> None:
        self._unmark()
        profile, self._profile, self._left = self._profile, None, 0
        if profile is not None:
            profile.stop()

    def _unmark(self) -> None:
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.__exit__(None, None, None)
