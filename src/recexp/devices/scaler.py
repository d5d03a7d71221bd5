"""Loss scaling for float16: dynamic or static, counting the updates that an overflow cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.amp.grad_scaler import OptState


class LossScaler(torch.amp.GradScaler):
    """torch's GradScaler with a counter of skipped updates, and a scale that may stand still.

    The counter lives on the device: nothing in the step waits for it.
    """

    def __init__(
        self, device: str, *, static: float | None = None, init_scale: float = 65536.0, growth_interval: int = 2000
    ) -> None:
        """Make a scaler.

        Args:
            device: Kind of device ("cpu", "cuda", ...).
            static: A scale that never changes; None adapts it.
            init_scale: First scale (dynamic).
            growth_interval: Updates without an overflow after which the scale doubles (dynamic).
        """
        super().__init__(
            device=device,
            init_scale=init_scale if static is None else static,
            growth_interval=growth_interval,
        )
        self._static = static
        self._skipped: torch.Tensor | None = None
        self._skipped_before = 0

    @property
    def skipped(self) -> int:
        """Updates skipped because of an infinite or undefined gradient. Waits for the device."""
        return self._skipped_before + (0 if self._skipped is None else int(self._skipped.item()))

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, once for each update.

        As torch's, but the scale is inverted in float32: Ascend's reciprocal has no float64, and scales are powers of
        two unless the user says otherwise, for which nothing changes.
        """
        self._check_scale_growth_tracker("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is not OptState.READY:
            raise RuntimeError("unscale_() has been called already for this update")
        assert self._scale is not None
        found = torch.zeros((), dtype=torch.float32, device=self._scale.device)
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, self._scale.reciprocal(), found, False)
        state["stage"] = OptState.UNSCALED

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Count an overflow, then adapt the scale (or leave it, where it is static)."""
        self._count()
        super().update(self._static if new_scale is None else new_scale)

    def _count(self) -> None:
        found = [
            found_inf.float()
            for state in self._per_optimizer_states.values()
            for found_inf in state["found_inf_per_device"].values()
        ]
        if not found:
            return
        overflow = (torch.stack(found).sum() > 0).to(torch.int32)
        self._skipped = overflow if self._skipped is None else self._skipped + overflow

    def state_dict(self) -> dict[str, Any]:
        """Scale, growth and count as plain numbers."""
        return {**super().state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with a saved state; a static scale stays what the configuration says."""
        state = dict(state_dict)
        self._skipped_before = int(state.pop("skipped", 0))
        self._skipped = None
        if self._static is not None:
            state["scale"] = self._static
        super().load_state_dict(state)


def update(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    scaler: LossScaler | None = None,
    clip: Callable[[], object] | None = None,
) -> None:
    """Backward pass and one update by ``optimizer``, for loops that do not go through Lightning's wrappers.

    Args:
        loss: Scalar to differentiate.
        optimizer: Owns the parameters; the caller zeroes the gradients.
        scaler: The precision's loss scaler, None where there is none.
        clip: Called between the backward pass and the update, on gradients that are already unscaled.
    """
    if scaler is None:
        loss.backward()
        if clip is not None:
            clip()
        optimizer.step()
        return
    scaler.scale(loss).backward()
    if clip is not None:
        scaler.unscale_(optimizer)
        clip()
    scaler.step(optimizer)
    scaler.update()
