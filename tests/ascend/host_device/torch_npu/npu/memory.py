"""How much of a device's memory is in use. Nothing is kept back for reuse: what is reserved is what is allocated."""

import torch

from torch_npu.npu._state import _lazy_init, device_index, existing_index, is_initialized


def empty_cache():
    if is_initialized():
        torch.accelerator.empty_cache()


def memory_stats(device=None):
    index = device_index(device)
    return dict(torch.accelerator.memory_stats(index)) if is_initialized() else {}


def memory_allocated(device=None):
    return memory_stats(device=device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device=None):
    return memory_stats(device=device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device=None):
    return memory_stats(device=device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device=None):
    return memory_stats(device=device).get("reserved_bytes.all.peak", 0)


def reset_peak_memory_stats(device=None):
    torch.accelerator.reset_peak_memory_stats(device_index(device))


def reset_accumulated_memory_stats(device=None):
    torch.accelerator.reset_accumulated_memory_stats(device_index(device))


def memory_summary(device=None, abbreviated=False):
    rows = [f"NPU {device_index(device)}: host memory"]
    rows += [f"{name}: {value}" for name, value in sorted(memory_stats(device=device).items())]
    return "\n".join(rows[:5] if abbreviated else rows)


def mem_get_info(device=None):
    index = existing_index(device)
    _lazy_init()
    return torch.accelerator.get_memory_info(index)
