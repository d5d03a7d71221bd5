"""``device=cpu``: the host's processor, with a thread count that no launcher changes."""

from __future__ import annotations

import torch
from pytorch_lightning.accelerators import Accelerator, CPUAccelerator

from recexp.devices import host
from recexp.devices.device import Device


class CpuDevice(Device):
    """One process, or several that train data parallel over gloo."""

    kind, backend = "cpu", "gloo"

    def __init__(self, *, count: int = 1, threads: int | None = None, timeout_s: float = 1800.0) -> None:
        """Choose.

        Args:
            count: Processes.
            threads: Of each process; None shares the cores that this process may use.
            timeout_s: After which a process waits no longer for the others.
        """
        super().__init__(count=count, timeout_s=timeout_s)
        self.threads = threads or max(1, host.usable_cores() // max(count, 1))

    @property
    def devices(self) -> list[torch.device]:
        """The same device for each process."""
        return [torch.device("cpu")] * self.count

    def available(self) -> int:
        """There is always one."""
        return 1

    def why_not(self) -> str | None:
        """Nothing speaks against it."""
        return None

    def accelerator(self) -> Accelerator:
        """Lightning's."""
        return CPUAccelerator()

    def device_name(self) -> str:
        """The processor's model."""
        return host.cpu_name()

    def prepare(self) -> None:
        """As many threads as were asked for, and memory that stays."""
        torch.set_num_threads(self.threads)
        host.keep_freed_memory()

    def synchronize(self) -> None:
        """Nothing is pending."""

    def peak_memory_bytes(self) -> int:
        """Peak resident size of this process."""
        return host.peak_rss_bytes()

    def free_memory_bytes(self) -> int:
        """Of the machine, shared by this run's processes."""
        return host.memory_bytes()[1] // self.count

    def reset_peak_memory(self) -> None:
        """Where the system allows it."""
        host.reset_peak_rss()

    def _devices_flag(self) -> int:
        return self.count

    def description(self) -> dict[str, str]:
        """With the threads."""
        return {**super().description(), "device.threads": str(self.threads)}
