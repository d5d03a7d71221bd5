"""A training of a few milliseconds through the project's own loop, with gradients that can be spoiled on purpose."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from recexp.devices.precision import AutocastPrecision
from recexp.devices.scaler import LossScaler
from recexp.errors import RecexpError
from recexp.problems.module import Clip, ProblemModule, StepSettings
from recexp.problems.schedule import Block, BlockLoader, Plan, Update, shuffled
from recexp.training.checkpoint_io import AtomicCheckpointIO
from recexp.training.checkpoints import LAST, Checkpoints, CheckpointSettings, RandomState
from recexp.training.signals import Interrupted, StopRequest

ROWS, WIDTH = 48, 6


@dataclass(frozen=True)
class Rows:
    """Inputs [B, WIDTH] and what is to be predicted [B]."""

    x: Tensor
    y: Tensor


class Small(ProblemModule):
    """Two linear layers; ``spoiled`` multiplies the loss of some updates."""

    def __init__(self, settings: StepSettings, spoiled: Mapping[int, float] | None = None) -> None:
        super().__init__(settings)
        self.network = nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh(), nn.Linear(4, 1))
        self.spoiled = spoiled or {}
        self.losses: dict[int, float] = {}

    @property
    def reduction(self) -> str:
        return "mean"

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.network.parameters())}]

    def row_losses(self, batch: Rows) -> Tensor:
        number = self.global_step + 1
        loss = (self.network(batch.x).squeeze(-1).float() - batch.y).square() * self.spoiled.get(number, 1.0)
        self.losses[number] = float(loss.detach().mean())
        return loss

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


@dataclass
class Training:
    """What a training left behind."""

    module: Small
    trainer: pl.Trainer
    points: list[tuple[int, float]] = field(default_factory=list)
    counts: dict[int, float] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.module.state_dict().items()}

    @property
    def optimizer_state(self) -> dict[Any, Any]:
        return self.trainer.optimizers[0].state_dict()["state"]


class _Record(pl.Callback):
    """Takes the points as the reporting does, and asks to stop after some blocks."""

    def __init__(self, result: Training, request: StopRequest, stop_after: int | None, watchers: Sequence[Any]) -> None:
        self.result, self.request, self.left, self.watchers = result, request, stop_after, watchers

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.result.points += pl_module.take_loss_points()
        for watcher in self.watchers:
            if hasattr(watcher, "take_points"):
                taken = watcher.take_points().items()
                self.result.counts |= {number: values["train/overflows"] for number, values in taken}
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.request.number = 2


class _Data(pl.LightningDataModule):
    """Saves and restores where the training is, as the problems' own do."""

    def __init__(self, loader: BlockLoader[Rows]) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self) -> BlockLoader[Rows]:
        return self.loader

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loader.load_state_dict(state_dict)


def _blocks(plan: Plan) -> BlockLoader[Rows]:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(ROWS, WIDTH, generator=draw)
    y = x.sum(1) * 0.5

    def build(epoch: int, updates: range) -> Block[Rows]:
        order = torch.from_numpy(shuffled(ROWS, 1, epoch))
        made = []
        for update in updates:
            bounds = plan.rows_of(update)
            batches = [Rows(x[order[a:b]], y[order[a:b]]) for a, b in bounds]
            made.append(Update(sum(b - a for a, b in bounds), batches))
        return Block(epoch, made)

    return BlockLoader(plan, build)


def train(
    folder: Path, watchers: Sequence[Any] = (), *, epochs: int = 2, block: int = 1, accumulate: int = 1,
    spoiled: Mapping[int, float] | None = None, init_scale: float | None = None, clip: Clip | None = None,
    stop_after: int | None = None, resume: bool = False, log_every: int = 3, lr: float = 0.05,
) -> Training:  # fmt: skip
    """Train 6 updates an epoch; an error is kept, not raised."""
    torch.manual_seed(0)

    def make(groups: list[dict[str, Any]]) -> tuple[torch.optim.Optimizer, None]:
        return torch.optim.Adam(groups, lr=lr), None

    plan = Plan(ROWS, batch_size=8 // accumulate, accumulate=accumulate, updates_per_block=block)
    request = StopRequest()
    module = Small(StepSettings(make, clip, log_every), spoiled)
    module.watchers = list(watchers)
    random = RandomState(lambda: {"torch": torch.get_rng_state()}, lambda state: torch.set_rng_state(state["torch"]))
    checkpoints = Checkpoints(
        CheckpointSettings(folder, "none", None, None, 0.0, {"note": "test"}), random, request, lambda: None
    )
    plugins: list[Any] = [AtomicCheckpointIO()]
    if init_scale is not None:
        plugins.append(AutocastPrecision("cpu", torch.float16, LossScaler("cpu", init_scale=init_scale)))
    result = Training(module, None)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result.trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, plugins=plugins,
            callbacks=[
                _Record(result, request, stop_after, watchers),
                *(watcher for watcher in watchers if isinstance(watcher, pl.Callback)), checkpoints,
            ],
        )  # fmt: skip
        try:
            path = str(folder / LAST) if resume else None
            result.trainer.fit(module, datamodule=_Data(_blocks(plan)), ckpt_path=path)
        except Interrupted:
            assert stop_after is not None
        except (RecexpError, RuntimeError) as error:
            result.error = error
    return result


def same(one: Training, other: Training) -> bool:
    """Whether two trainings ended with the same bits: weights, optimiser, points of the loss."""
    states = zip(one.optimizer_state.values(), other.optimizer_state.values(), strict=True)
    moments = all(same_bits(a[key], b[key]) for a, b in states for key in a)
    points = [torch.tensor(training.points, dtype=torch.float64) for training in (one, other)]
    return same_weights(one, other) and moments and same_bits(*points)


def same_weights(one: Training, other: Training) -> bool:
    """Whether two trainings ended with the same weights."""
    return all(same_bits(value, other.weights[name]) for name, value in one.weights.items())


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, where what is not a number equals itself."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
