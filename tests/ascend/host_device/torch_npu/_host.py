"""What a test may look at and turn. The real torch_npu has no such module.

Attributes:
    settings: Everything that has been set on the device, by name: ``option:ACL_PRECISION_MODE``, ``hf32.matmul``,
        ``jit_compile``, ``profiler`` and so on.
    overflow: The overflow flag that a chip without INF/NAN mode keeps (``NPU_HOST_NO_INF_NAN=1``).
    synchronized: How often this process has waited for a device, a stream or an event.
"""

from typing import Any

import torch

settings: dict[str, Any] = {}
overflow = False


def reload() -> None:
    """Read the ``NPU_HOST_*`` variables again. They are read once, at import."""
    torch.ops.npu_host.read_knobs()


def __getattr__(name: str) -> Any:
    if name == "synchronized":
        return torch.ops.npu_host.synchronizations()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
