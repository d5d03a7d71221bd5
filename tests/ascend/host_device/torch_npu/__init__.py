"""A stand-in for torch-npu, for tests: the device ``npu`` is made of host memory.

The names, signatures and refusals are those of torch-npu 2.13.0, as far as a training programme uses them. The
results are the CPU's. ``torch_npu._host`` is the one module that the real package does not have: it shows a test what
has been set. Nothing that is seen here is evidence about hardware.
"""

import torch

from torch_npu import _build

__version__ = "2.13.0"

torch.ops.load_library(str(_build.library()))
torch.ops.npu_host.take_over_host_kernels()

from torch_npu import _hccl as _hccl  # noqa: E402
from torch_npu import _host as _host  # noqa: E402
from torch_npu import npu, profiler  # noqa: E402  they use the operators that the library brings

__all__ = ["npu", "profiler"]


def _register() -> None:
    """Make the device known to torch, as the real package does when it is imported."""
    torch.utils.rename_privateuse1_backend("npu")
    torch._register_device_module("npu", npu)
    quantized = [torch.quint8, torch.quint4x2, torch.quint2x4, torch.qint32, torch.qint8]
    torch.utils.generate_methods_for_privateuse1_backend(
        for_tensor=True, for_module=True, for_storage=True, unsupported_dtype=quantized
    )
    _hccl.register()


def _autoload() -> None:
    """Entry point by which ``import torch`` loads a back end. There is nothing left to do."""


_register()
