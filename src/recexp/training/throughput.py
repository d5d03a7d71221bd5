"""Measures training speed: rows a second, time a step, share of time waiting for data, peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning import Callback

from recexp.problems.schedule import Block, BlockLoader

WARM_UP_UPDATES = 32


class Throughput(Callback):
    """Times the training blocks of this process's run, without validation, checkpoints and the first updates.

    The clock is read after the device was waited for, once for each block.
    """

    def __init__(self, synchronize: Callable[[], None], peak_memory_bytes: Callable[[], int]) -> None:
        self.synchronize, self.peak_memory_bytes = synchronize, peak_memory_bytes
        self.rows, self.updates, self.seconds, self.waited = 0, 0, 0.0, 0.0
        self.step_ms: list[float] = []
        self.first_step_at: float | None = None
        self._warm_up = WARM_UP_UPDATES
        self._mark, self._loader_mark = 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock after whatever came between two epochs."""
        self._restart(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch that is resumed in the middle."""
        self._restart(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Block[Any], batch_idx: int
    ) -> None:
        """Add a block."""
        updates = len(batch.updates)
        if not updates:
            return
        self.synchronize()
        now = time.perf_counter()
        self.first_step_at = self.first_step_at or time.time()
        if self._warm_up > 0:
            self._warm_up -= updates
        else:
            self.rows += batch.rows
            self.updates += updates
            self.seconds += now - self._mark
            self.waited += self._loader_seconds(trainer) - self._loader_mark
            self.step_ms.append((now - self._mark) / updates * 1e3)
        self._restart(trainer)

    def reset_clock(self, trainer: pl.Trainer) -> None:
        """Leave out what happened since the last block."""
        self._restart(trainer)

    def metrics(self) -> dict[str, float]:
        """``perf/`` metrics up to here; empty before the warm-up is over."""
        if not self.seconds:
            return {}
        p50, p95 = np.percentile(self.step_ms, [50, 95])
        return {
            "perf/examples_per_s": self.rows / self.seconds,
            "perf/step_ms_p50": float(p50),
            "perf/step_ms_p95": float(p95),
            "perf/data_wait_share": self.waited / self.seconds,
            "perf/peak_memory_mib": self.peak_memory_bytes() / 2**20,
        }

    def _restart(self, trainer: pl.Trainer) -> None:
        self._mark, self._loader_mark = time.perf_counter(), self._loader_seconds(trainer)

    def _loader_seconds(self, trainer: pl.Trainer) -> float:
        loader = trainer.train_dataloader
        return loader.seconds if isinstance(loader, BlockLoader) else 0.0
