"""``torch.npu.amp``: autocast and gradient scaling without a device argument."""

from torch_npu.npu.amp.autocast_mode import autocast
from torch_npu.npu.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast"]
