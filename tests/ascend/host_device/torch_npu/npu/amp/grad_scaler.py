"""torch-npu's own gradient scaler: no device argument, and it knows chips that keep an overflow flag instead of inf."""

import warnings

import torch

from torch_npu.npu import utils
from torch_npu.npu._state import is_available


class GradScaler(torch.amp.GradScaler):
    """`torch.amp.GradScaler` on npu. With ``dynamic=False`` the scale stays and no step is skipped."""

    def __init__(
        self,
        init_scale=2.0**16,
        growth_factor=2.0,
        backoff_factor=0.5,
        growth_interval=2000,
        dynamic=True,
        enabled=True,
    ):
        if enabled and not is_available():
            warnings.warn(
                "torch_npu.amp.GradScaler is enabled, but NPU is not available. Disabling.",
                stacklevel=2,
            )
            enabled = False
        super().__init__("npu", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
        self._dynamic = dynamic

    def scale(self, outputs):
        if self._enabled and self._dynamic and not utils.is_support_inf_nan():
            utils.clear_npu_overflow_flag()
        return super().scale(outputs)

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        per_device = super()._unscale_grads_(optimizer, inv_scale, found_inf, allow_fp16)
        for flag in per_device.values():
            if not self._dynamic:
                flag.zero_()
            elif not utils.is_support_inf_nan() and utils.get_npu_overflow_flag():
                flag.fill_(1.0)
        return per_device

    def update(self, new_scale=None):
        if self._dynamic or new_scale is not None or not self._enabled:
            super().update(new_scale)
        else:
            super().update(self.get_scale())

    def state_dict(self):
        state = super().state_dict()
        return {**state, "dynamic": self._dynamic} if self._enabled else state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        if self._enabled:
            self._dynamic = state_dict["dynamic"]
