"""Which devices there are, and whether one is in use."""

import os
import warnings
from dataclasses import dataclass

import torch

from torch_npu import _host


def is_available():
    return device_count() > 0


def device_count() -> int:
    return torch.ops.npu_host.device_count()


def init():
    _lazy_init()


def is_initialized():
    return torch.ops.npu_host.initialized()


def _lazy_init():
    torch.ops.npu_host.claim(torch.ops.npu_host.current_device())


def _is_in_bad_fork():
    return torch.ops.npu_host.in_bad_fork()


def device_index(device=None) -> int:
    """The index that ``device`` means; the current one where it names none."""
    if device is None:
        return torch.ops.npu_host.current_device()
    if isinstance(device, int):
        return device
    if hasattr(device, "idx"):  # the context manager torch.npu.device
        return device.idx
    device = torch.device(device)
    if device.type != "npu":
        raise ValueError(f"Expected a npu device, but got: {device}")
    return torch.ops.npu_host.current_device() if device.index is None else device.index


def existing_index(device=None) -> int:
    """Like `device_index`, for a device that this machine has."""
    index = device_index(device)
    if not 0 <= index < device_count():
        raise AssertionError("Invalid device id")
    return index


@dataclass(frozen=True)
class NPUDeviceProperties:
    """What is known about a device."""

    name: str
    total_memory: int
    cube_core_num: int = 1
    vector_core_num: int = 1
    L2_cache_size: int = 0


def get_device_name(device_name=None):
    existing_index(device_name)
    return os.environ.get("NPU_HOST_NAME") or "host memory"


def get_device_properties(device_name=None):
    index = existing_index(device_name)
    _lazy_init()
    return NPUDeviceProperties(get_device_name(index), torch.accelerator.get_memory_info(index)[1])


def utilization(device=None):
    existing_index(device)
    _lazy_init()
    return 0


def set_deterministic_level(level):
    wanted = level >= 1
    if torch.are_deterministic_algorithms_enabled() != wanted:
        warnings.warn(
            "The current configuration value of 'torch_npu.npu.set_deterministic_level' conflicts with "
            f"'torch.use_deterministic_algorithms'. 'torch.use_deterministic_algorithms' has been configured to "
            f"'{wanted}'.",
            stacklevel=2,
        )
        torch.use_deterministic_algorithms(wanted)
    _host.settings["deterministic_level"] = level
    warnings.warn(
        "After using 'torch_npu.npu.set_deterministic_level', please do not use 'torch.use_deterministic_algorithms' "
        "anymore, as it may cause unknown errors.",
        stacklevel=2,
    )
