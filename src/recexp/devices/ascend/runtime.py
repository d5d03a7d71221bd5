"""The two doors to torch-npu. All calls go through them, so that a test can bind each against the real signatures."""

from __future__ import annotations

from typing import Any

import torch


def npu() -> Any:
    """``torch.npu``: written as ``npu().name(...)``, never kept in a variable.

    Raises:
        AttributeError: torch-npu has not been imported in this process.
    """
    return torch.npu  # type: ignore[attr-defined]


def torch_npu() -> Any:
    """The module ``torch_npu``: written as ``torch_npu().name(...)``, never kept in a variable.

    Raises:
        ImportError: It is not installed, or cannot find CANN's libraries.
    """
    import torch_npu as module

    return module
