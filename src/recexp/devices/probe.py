"""Looks at the matrix products of a step: their device and type are the proof of a precision."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "matmul", "_scaled_dot_product_attention_math"}


class ProductProbe(TorchDispatchMode):
    """Records (device kind, dtype) of every matrix product while it is active. Costs time: for one step only."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[tuple[str, torch.dtype]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Look at the result's type and pass it on."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.rstrip("_") in _PRODUCTS and isinstance(result, torch.Tensor):
            self.seen.add((result.device.type, result.dtype))
        return result
