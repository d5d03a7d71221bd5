"""Who may look into the step of training: watchers of single updates, told before, within and after each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from recexp.problems.schedule import Update


@dataclass(frozen=True)
class WatchedUpdate:
    """One update, as its watchers see it.

    Attributes:
        number: From 1; the trainer's ``global_step`` once the update is done.
        update: Its batches.
        module: Owns the parameters.
        scaler: Multiplies the loss, and with it the gradients that a watcher sees; None where nothing does.
    """

    number: int
    update: Update[Any]
    module: nn.Module
    scaler: GradScaler | None

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that are trained, by name."""
        return ((name, value) for name, value in self.module.named_parameters() if value.requires_grad)


class UpdateWatcher(Protocol):
    """Looks at every update. What it does must not depend on how updates are grouped into blocks."""

    def before(self, update: WatchedUpdate) -> None:
        """The update begins."""

    def after_backward(self, update: WatchedUpdate, loss: Tensor) -> None:
        """The gradients are there: of all batches and processes, under the loss scale, not clipped.

        Args:
            update: The update.
            loss: Over this process's rows, detached, not scaled.
        """

    def after(self, update: WatchedUpdate) -> None:
        """The optimiser and the schedule have made their step."""
