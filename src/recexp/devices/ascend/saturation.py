"""Loss scaling on chips without infinities, whose float16 stops at 65504 and raises a flag instead."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from torch.optim import Optimizer

from recexp.devices.ascend.runtime import npu
from recexp.devices.scaler import LossScaler


def _flag(device: torch.device) -> torch.Tensor:
    """1.0 where this chip, or that of another process of the training, has overflowed.

    Each chip knows its own overflows only. Without a common answer one process would skip an update that the others
    make, and the replicas would be different models from then on.
    """
    flag = torch.tensor(float(npu().utils.get_npu_overflow_flag()), device=device)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return flag


class FlagLossScaler(LossScaler):
    """Takes the chip's overflow flag for an infinite gradient; an update then waits once for the chip.

    First-generation training chips (Ascend 910A), and later ones with ``device.inf_nan=false``, saturate: no gradient
    is ever infinite, and torch's scaler would never notice.
    """

    def scale(self, outputs: Any) -> Any:
        """Scale a loss, and forget overflows of what came before."""
        if not self._scaling_since_step:
            npu().utils.clear_npu_overflow_flag()
            self._scaling_since_step = True
        return super().scale(outputs)

    def unscale_(self, optimizer: Optimizer) -> None:
        """Unscale, and mark the update as overflowed where the chip says so."""
        super().unscale_(optimizer)
        self._scaling_since_step = False
        found: dict[torch.device, torch.Tensor] = self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        for device, mark in found.items():
            mark.copy_(torch.maximum(mark, _flag(device)))

    _scaling_since_step = False
