"""Small trainings through the real loop: fitted, interrupted after some blocks, resumed, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from recexp.config.settings import TrainerSettings
from recexp.problems.posed import Posed
from recexp.training.checkpoint_io import AtomicCheckpointIO
from recexp.training.checkpoints import LAST, Checkpoints, CheckpointSettings, RandomState
from recexp.training.signals import Interrupted, StopRequest


class Record(pl.Callback):
    """Collects the loss points and asks to stop after some blocks."""

    def __init__(self, request: StopRequest, stop_after: int | None) -> None:
        self.request, self.left, self.points, self.metrics = request, stop_after, [], []
        self.rates: dict[int, float] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.points += pl_module.take_loss_points()
        self.rates.update(pl_module.rates)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.request.number = 2

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metrics.append((trainer.global_step, dict(pl_module.results)))


def fit(
    posed: Posed, folder: Path, trainer: TrainerSettings, *, stop_after: int | None = None, resume: bool = False,
    precision: Any = None, patience: int | None = None, monitor: str | None = None,
) -> tuple[Record, Checkpoints]:  # fmt: skip
    request = StopRequest()
    record = Record(request, stop_after)
    watched = monitor or posed.headline
    settings = CheckpointSettings(
        folder, watched, trainer.checkpoint_every_n_steps, patience, 0.0, {"note": "test"},
        lower_is_better=watched in posed.lower_is_better,
    )  # fmt: skip
    random = RandomState(lambda: {"torch": torch.get_rng_state()}, lambda state: torch.set_rng_state(state["torch"]))
    checkpoints = Checkpoints(settings, random, request, lambda: None)
    lightning = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=trainer.max_epochs, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
        plugins=[AtomicCheckpointIO(), *([precision] if precision else [])], callbacks=[record, checkpoints],
    )  # fmt: skip
    try:
        lightning.fit(posed.module, datamodule=posed.data, ckpt_path=str(folder / LAST) if resume else None)
    except Interrupted:
        assert stop_after is not None
    return record, checkpoints


def weights(posed: Posed) -> dict[str, torch.Tensor]:
    return posed.module.state_dict()


def assert_equal(one: Posed, other: Posed) -> None:
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
