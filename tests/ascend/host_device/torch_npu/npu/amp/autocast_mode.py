"""``torch.npu.amp.autocast(...)`` is ``torch.autocast("npu", ...)``."""

import torch


class autocast(torch.amp.autocast_mode.autocast):
    """Lower precision inside a block."""

    def __init__(self, enabled: bool = True, dtype: torch.dtype = torch.float16, cache_enabled: bool = True):
        super().__init__("npu", enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)
