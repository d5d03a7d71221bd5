"""Passes on what a training measures: points to the tracking, the state to the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback

from recexp.devices.probe import ProductProbe
from recexp.problems.module import ProblemModule
from recexp.problems.schedule import Block
from recexp.training.throughput import Throughput


class Records(Protocol):
    """Takes points; the tracking does."""

    def metrics(self, mapping: Mapping[str, float], step: int) -> None:
        """One value of each metric at a step."""


class Display(Protocol):
    """Shows the training; the reports do."""

    def start(self, total_updates: int, done: int = 0, epochs: int | None = None) -> None:
        """The training begins, or goes on."""

    def update(self, done: int, rows: int) -> None:
        """So many updates are done; so many rows were added."""

    def loss(self, value: float) -> None:
        """The latest training loss."""

    def epoch(self, number: int, of: int, metrics: Mapping[str, float]) -> None:
        """A validation is over."""


class Reporting(Callback):
    """Logs ``train/``, ``val/`` and ``perf/`` at the update they belong to."""

    def __init__(
        self,
        records: Records,
        display: Display,
        throughput: Throughput,
        total_updates: int,
        counters: Callable[[], Mapping[int, Mapping[str, float]]] = dict,
    ) -> None:
        self.records, self.display, self.throughput, self.total = records, display, throughput, total_updates
        #: Gives further metrics at the points of the loss, by update.
        self.counters = counters

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the whole length."""
        self.display.start(self.total, trainer.global_step, trainer.max_epochs)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Block[Any], batch_idx: int
    ) -> None:
        """Log finished points of the loss."""
        assert isinstance(pl_module, ProblemModule)
        points = pl_module.take_loss_points()
        if points:
            counted = self.counters()
            for step, loss in points:
                self.records.metrics(
                    {"train/loss": loss, "train/lr": pl_module.rates.pop(step), **counted.get(step, {})}, step
                )
            self.display.loss(points[-1][1])
        self.display.update(trainer.global_step, batch.rows)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the validation and the speed so far."""
        assert isinstance(pl_module, ProblemModule)
        values = {name: value for name, value in pl_module.results.items() if name.startswith("val/")}
        self.records.metrics({**values, **self.throughput.metrics()}, trainer.global_step)
        self.display.epoch(trainer.current_epoch + 1, trainer.max_epochs or 0, values)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the speed where there is no validation that would."""
        if not sum(trainer.num_val_batches):
            self.records.metrics(self.throughput.metrics(), trainer.global_step)
            self.display.epoch(trainer.current_epoch + 1, trainer.max_epochs or 0, {})


class Placement(Callback):
    """Makes sure that the run is where it was asked to be: when it starts, and in its first block of updates."""

    def __init__(self, check: Callable[[pl.LightningModule, set[tuple[str, torch.dtype]]], None]) -> None:
        self.check = check
        self._probe: ProductProbe | None = None
        self._done = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the parameters."""
        self.check(pl_module, set())

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Watch the first block's products."""
        if not self._done:
            self._probe = ProductProbe()
            self._probe.__enter__()  # type: ignore[no-untyped-call]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Compare them."""
        if self._probe is not None:
            self._probe.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            seen, self._probe, self._done = self._probe.seen, None, True
            self.check(pl_module, seen)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop watching."""
        if self._probe is not None:
            self._probe.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._probe = None
