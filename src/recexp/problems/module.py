"""The step that every problem shares: blocks of updates with accumulation, clipping and a running loss."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, distributed, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from recexp.problems.schedule import Block, Update
from recexp.problems.watch import UpdateWatcher, WatchedUpdate

_log = logging.getLogger(__name__)


class Network(Protocol):
    """What the shared step needs of a model."""

    #: ``mean`` or ``sum`` of an update's rows; ``batches``: the sum of each batch, averaged over accumulated ones.
    reduction: str

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters for the optimiser: ``params``; ``l2`` where a group has a penalty l2 * sum(w^2).

        With ``"l2_rows": "touched"``, it is that of the rows of a table that an update looks up. ``"tables": False``
        where a group has no table.
        """
        ...


@dataclass(frozen=True)
class Clip:
    """Bound on the gradients: the norm of all, of each tensor, or each value."""

    value: float
    algorithm: str

    def apply(self, parameters: list[nn.Parameter]) -> None:
        """Clip in place."""
        if all(parameter.grad is None for parameter in parameters):
            # The update is left out; torch refuses to clip the values of nothing.
            return
        if self.algorithm == "value":
            nn.utils.clip_grad_value_(parameters, self.value)
        elif self.algorithm == "norm":
            nn.utils.clip_grad_norm_(parameters, self.value)
        else:
            for parameter in parameters:
                nn.utils.clip_grad_norm_(parameter, self.value)


class GradientsByHand(Protocol):
    """Computes gradients without autograd and leaves them at the parameters, for an optimiser that takes rows."""

    def prepare(self, batches: Sequence[Any]) -> None:
        """Look at the batches that come next."""
        ...

    def __call__(self, batch: Any, scale: float) -> Tensor:
        """Gradients of the sum of a batch's losses times ``scale``, and that loss, []."""
        ...


MakeOptimizer = Callable[[list[dict[str, Any]]], tuple[Optimizer, LRScheduler | None]]


@dataclass(frozen=True)
class StepSettings:
    """What the step has to know of the trainer's settings."""

    make_optimizer: MakeOptimizer
    clip: Clip | None = None
    log_every_n_steps: int = 50


def _without_autocast(kind: str) -> AbstractContextManager[object]:
    """Autocast would lower the gradients' products too, also those of parts that are kept in float32."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class ProblemModule(LightningModule, ABC):
    """Lightning module of one problem: the subclass gives the loss of a batch and the evaluation."""

    def __init__(self, settings: StepSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        #: Told of every update. Empty but when somebody debugs.
        self.watchers: list[UpdateWatcher] = []
        #: Latest metrics, by full name, in double precision (Lightning keeps single).
        self.results: dict[str, float] = {}
        #: Finished points of the training loss: (update, mean loss since the last point).
        self.loss_points: list[tuple[int, Tensor]] = []
        #: The learning rate of the update at each finished point.
        self.rates: dict[int, float] = {}
        #: By what the last gradients were computed; two runs that differ in it round differently.
        self.arithmetic: str | None = None
        self._loss_sum: Tensor | None = None
        self._loss_count = 0

    @property
    @abstractmethod
    def reduction(self) -> str:
        """``mean`` or ``sum``."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """As :meth:`Network.parameter_groups`."""

    @abstractmethod
    def row_losses(self, batch: Any) -> Tensor:
        """Loss of each row of a batch, [rows]."""

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule where there is one."""
        optimizer, scheduler = self.settings.make_optimizer(self.parameter_groups())
        return optimizer if scheduler is None else ([optimizer], [scheduler])

    def training_step(self, block: Block[Any], _: int) -> None:
        """Run the updates of one block."""
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        by_hand = self._by_hand(block, optimizer)
        cached_casts = torch.is_autocast_enabled(self.device.type)
        for update in block.updates:
            watched = WatchedUpdate(self.global_step + 1, update, self, self._scaler()) if self.watchers else None
            if watched is not None:
                for watcher in self.watchers:
                    watcher.before(watched)
            optimizer.zero_grad()
            rate = float(optimizer.optimizer.param_groups[0]["lr"])
            own = by_hand if by_hand and len(update.batches) == 1 else None
            loss = own(update) if own else self._backward(update)
            if watched is not None:
                for watcher in self.watchers:
                    watcher.after_backward(watched, loss)
            if own:
                self._step_alone(optimizer)
            else:
                optimizer.step()
            if isinstance(scheduler, LRScheduler):
                scheduler.step()
            if cached_casts:
                # Autocast keeps its copies of the weights until it is left; they are stale after an update.
                torch.clear_autocast_cache()
            self._record(loss, rate)
            if watched is not None:
                for watcher in self.watchers:
                    watcher.after(watched)

    def gradients_by_hand(self) -> GradientsByHand | None:
        """The network's own computation of gradients, where it has one for its options and this device."""
        return None

    def _by_hand(self, block: Block[Any], optimizer: LightningOptimizer) -> Callable[[Update[Any]], Tensor] | None:
        """Gradients of an update without a graph; None where somebody has to see the graph or all of a gradient."""
        takes_rows = getattr(optimizer.optimizer, "takes_row_gradients", False)
        looked_at = self.watchers or self._scaler() is not None or self.settings.clip is not None
        alone = bool(takes_rows and not looked_at and self.trainer.world_size == 1)
        if takes_rows:
            optimizer.optimizer.rows_only = alone  # type: ignore[attr-defined]
        by_hand = self.gradients_by_hand() if alone else None
        now = "torch's graph" if by_hand is None else str(by_hand)
        if self.arithmetic not in (None, now):
            _log.warning(
                "the gradients of this run were computed by %s before, and are by %s from here on: they round "
                "differently, so that the end is not bit for bit that of an undisturbed run",
                self.arithmetic,
                now,
            )
        self.arithmetic = now
        if by_hand is None:
            return None
        # Decided for each update alone: how they are grouped into blocks may not matter.
        by_hand.prepare([update.batches[0] for update in block.updates if len(update.batches) == 1])
        return lambda update: by_hand(update.batches[0], 1 / update.rows if self.reduction == "mean" else 1.0)

    @staticmethod
    def _step_alone(optimizer: LightningOptimizer) -> None:
        """The optimiser's step, counted by Lightning, without what it does around it for closures and precision."""
        optimizer._on_before_step()
        optimizer.optimizer.update()  # type: ignore[attr-defined]
        optimizer._on_after_step()

    def _scaler(self) -> GradScaler | None:
        scaler: GradScaler | None = getattr(self.trainer.precision_plugin, "scaler", None)
        return scaler

    def _backward(self, update: Update[Any]) -> Tensor:
        """Gradients of one update; returns its loss over this process's rows, detached."""
        world = self.trainer.world_size
        shares = {"mean": update.rows, "batches": len(update.batches)}
        scale = world / shares.get(self.reduction, 1)
        total: Tensor | None = None
        for batch in update.batches:
            loss = self.row_losses(batch).sum() * scale
            with _without_autocast(self.device.type):
                self.manual_backward(loss)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients: here Lightning has taken the loss scale out of them, which can be done only once."""
        if self.settings.clip is not None:
            self.settings.clip.apply([p for group in optimizer.param_groups for p in group["params"]])

    def _record(self, loss: Tensor, rate: float) -> None:
        self._loss_sum = loss.float() if self._loss_sum is None else self._loss_sum + loss
        self._loss_count += 1
        if self.global_step % self.settings.log_every_n_steps == 0:
            self.loss_points.append((self.global_step, self._loss_sum / self._loss_count))
            self.rates[self.global_step] = rate
            self._loss_sum, self._loss_count = None, 0

    def take_loss_points(self) -> list[tuple[int, float]]:
        """The finished points since the last call, means over all processes. Waits for the device."""
        if not self.loss_points:
            return []
        steps, values = zip(*self.loss_points, strict=True)
        self.loss_points = []
        means = torch.stack(values)
        if self.trainer.world_size > 1:
            distributed.all_reduce(means)
            means /= self.trainer.world_size
        return list(zip(steps, means.tolist(), strict=True))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the unfinished mean of the loss."""
        total = None if self._loss_sum is None else float(self._loss_sum)
        checkpoint["arithmetic"] = self.arithmetic
        checkpoint["running_loss"] = {"sum": total, "count": self._loss_count}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the unfinished mean up again."""
        self.arithmetic = checkpoint.get("arithmetic")
        running = checkpoint["running_loss"]
        self._loss_sum = None if running["sum"] is None else torch.tensor(running["sum"], device=self.device)
        self._loss_count = int(running["count"])
