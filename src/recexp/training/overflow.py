"""Finds updates whose gradients are infinite or undefined, counts them, and leaves them out or stops where asked to."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from recexp.devices.scaler import LossScaler
from recexp.errors import RecexpError
from recexp.problems.watch import WatchedUpdate

_log = logging.getLogger(__name__)
METRIC = "train/overflows"
_NAMED = 8


def non_finite(parameters: Iterable[nn.Parameter], device: torch.device) -> Tensor:
    """How many elements of each gradient are infinite and how many undefined, int64 [parameters, 2]; does not wait."""
    rows = [torch.zeros(0, 2, dtype=torch.int64, device=device)]
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            rows.append(torch.zeros(1, 2, dtype=torch.int64, device=device))
            continue
        # The zeros that a sparse gradient does not store are finite.
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        rows.append(torch.stack((values.isinf().sum(), values.isnan().sum()))[None])
    return torch.cat(rows)


def listing(names: list[str], counts: Tensor) -> str:
    """The parameters with elements that are not finite, in words: ``a (3 inf, 1 nan), b (2 nan)``."""
    found = []
    for name, (infinite, undefined) in zip(names, counts.tolist(), strict=True):
        parts = [f"{count} {word}" for count, word in ((infinite, "inf"), (undefined, "nan")) if count]
        if parts:
            found.append(f"{name} ({', '.join(parts)})")
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


class Findings:
    """What was found since the last report. Lives on the device, so that adding to it waits for nothing."""

    def __init__(self) -> None:
        self.updates: Tensor | int = 0
        self.first: Tensor | int = 0
        self.losses: Tensor | int = 0
        self.counts: Tensor | None = None

    def add(self, number: int, counts: Tensor, loss: Tensor) -> None:
        """Add an update's numbers of elements that are not finite."""
        bad = counts.sum() > 0
        first = torch.as_tensor(self.first, device=counts.device)
        self.first = torch.where(bad & (first == 0), number, first)
        self.updates = self.updates + bad.to(torch.int64)
        self.losses = self.losses + loss.isfinite().logical_not().to(torch.int64)
        self.counts = counts if self.counts is None else self.counts.to(counts.device) + counts

    def text(self, names: list[str], *, left_out: bool) -> str | None:
        """A sentence, None where there is nothing to say. Waits for the device."""
        updates, losses = int(self.updates), int(self.losses)
        if not updates and not losses:
            return None
        of_loss = f"the loss was not finite in {losses}" if losses else "the loss was finite"
        if not updates:
            return f"the gradients were finite, but {of_loss} of the updates since the last report"
        assert self.counts is not None
        return (
            f"{updates} {'update' if updates == 1 else 'updates'} with gradients that are not finite since the last "
            f"report, the first one {int(self.first)}{', left out' if left_out else ''}; {of_loss}; "
            f"elements of all of them: {listing(names, self.counts)}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values. Waits for the device."""
        counts = None if self.counts is None else self.counts.tolist()
        return {"updates": int(self.updates), "first": int(self.first), "losses": int(self.losses), "counts": counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up again."""
        self.updates, self.first, self.losses = state["updates"], state["first"], state["losses"]
        self.counts = None if state["counts"] is None else torch.tensor(state["counts"], dtype=torch.int64)


class Overflow(Callback):
    """Watches the gradients of every update, before they are clipped.

    All processes of a training decide alike: their gradients are the same, their losses are not, so that only the
    gradients decide.
    """

    def __init__(self, action: str, *, log_every_n_steps: int) -> None:
        """Choose what happens.

        Args:
            action: ``off`` only counts what a loss scaler skips; ``warn`` says it; ``skip`` leaves the update out,
                where no loss scaler does; ``stop`` raises.
            log_every_n_steps: Updates between two reports.
        """
        self.action, self.every = action, log_every_n_steps
        self._count: Tensor | int = 0
        self._findings = Findings()
        self._names: list[str] = []
        self._points: list[tuple[int, Tensor | int]] = []
        self._reports: list[Findings] = []

    def before(self, update: WatchedUpdate) -> None:
        """Nothing to see yet."""

    def after_backward(self, update: WatchedUpdate, loss: Tensor) -> None:
        """Look at the gradients.

        Raises:
            RecexpError: They are not finite, and the action is to stop.
        """
        if self.action == "off":
            return
        named = list(update.parameters())
        self._names = [name for name, _ in named]
        counts = non_finite((value for _, value in named), loss.device)
        if self.action == "stop":
            if bool(counts.any()):
                raise RecexpError(_stopped(update, loss, listing(self._names, counts)))
            return
        if self.action == "skip" and update.scaler is None and bool(counts.any()):
            for _, parameter in named:
                # An optimiser passes over a parameter without gradient: neither it nor its state changes.
                parameter.grad = None
        self._findings.add(update.number, counts, loss)
        self._count = self._count + (counts.sum() > 0).to(torch.int64)

    def after(self, update: WatchedUpdate) -> None:
        """Close a point where the loss has one."""
        if update.number % self.every == 0:
            # The scaler's own count waits for the device, once in so many updates.
            count = update.scaler.skipped if isinstance(update.scaler, LossScaler) else self._count
            self._points.append((update.number, count))
            self._reports.append(self._findings)
            self._findings = Findings()

    def take_points(self) -> dict[int, dict[str, float]]:
        """The count at each point since the last call, by update. Waits for the device."""
        points, self._points = self._points, []
        return {number: {METRIC: float(count)} for number, count in points}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Say what was found up to the last point."""
        self._say(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say the rest."""
        self._reports.append(self._findings)
        self._findings = Findings()
        self._say(trainer)

    def _say(self, trainer: pl.Trainer) -> None:
        reports, self._reports = self._reports, []
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        for findings in reports if trainer.is_global_zero else []:
            text = findings.text(self._names, left_out=self.action == "skip" or scaled)
            if text is not None:
                _log.warning("%s", text)

    def state_dict(self) -> dict[str, Any]:
        """The count, and what is not reported yet."""
        return {"count": int(self._count), "names": self._names, "findings": self._findings.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up again."""
        self._count, self._names = int(state_dict["count"]), list(state_dict["names"])
        self._findings.load_state_dict(state_dict["findings"])


def _stopped(update: WatchedUpdate, loss: Tensor, where: str) -> str:
    number = update.number
    scale = "" if update.scaler is None else f", loss scale {update.scaler.get_scale():g}"
    remedies = "a smaller optim.lr, trainer.gradient_clip_val, another precision"
    if update.scaler is not None:
        remedies += ", a smaller precision.init_scale (a scale that adapts begins too high on purpose)"
    return (
        f"debug.overflow=stop: the gradients of update {number} are not finite in {where} (loss {float(loss):g}{scale})"
        f". The weights are still those of update {number - 1}. To see the values, go on from the last checkpoint with "
        f"resume=true debug.dump=[{number}]; to get past it, try {remedies}, or debug.overflow=skip."
    )
