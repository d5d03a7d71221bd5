"""Child only: right after this process's own ``import torch_npu``, its kernels are replaced by the host's.

Python imports this file at its start because its folder is on PYTHONPATH. Programs need not know.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class AfterTorchNpu:
    """A finder that lets the next ones find ``torch_npu``, and acts when it has been loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Only ``torch_npu`` itself is of interest, once."""
        if name != "torch_npu":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_replace(module: ModuleType) -> None:
            load(module)
            import torch

            torch.ops.load_library(os.environ["RECEXP_HOST_KERNELS"])
            torch.ops.host_kernels.install()

        spec.loader.exec_module = load_and_replace  # type: ignore[method-assign]
        return spec


if "RECEXP_HOST_KERNELS" in os.environ:
    sys.meta_path.insert(0, AfterTorchNpu())  # type: ignore[arg-type]
