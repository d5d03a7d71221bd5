"""What this machine gives this process: cores, memory and the peak of its own memory. Imports no torch."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import resource
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
#: Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def usable_cores() -> int:
    """Cores that this process may use: its affinity, bounded by the container's CPU quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, math.ceil(quota))) if quota else max(1, cores)


def _cpu_quota() -> float | None:
    """Cores' worth of time that the cgroup grants (version 2), None where it sets no bound."""
    try:
        quota, period = _CPU_MAX.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def memory_bytes() -> tuple[int, int]:
    """Total and available memory of the machine, bytes."""
    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for what it allocates next.

    glibc gives large pieces back to the system and asks for fresh pages again at every update: DLRM on Criteo's shape
    ran 1.6 to 2.4 times as fast without (batch 2048, two cores, 2026-11-21).

    Returns:
        Whether the C library can be told: glibc can.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - other libraries have a mallopt that means something else
        told = [library.mallopt(option, value) for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))]
    except (OSError, AttributeError, TypeError):
        return False
    return all(told)


def reset_peak_rss() -> bool:
    """Set the process's peak resident size back to its present size.

    Returns:
        Whether that was possible: Linux allows it, elsewhere the peak counts from the start of the process.
    """
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int:
    """Largest resident size of this process (its workers not included), bytes."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_name() -> str:
    """Model name of the processor, or its architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
