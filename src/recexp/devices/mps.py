"""``device=mps``: the GPU of an Apple computer."""

from __future__ import annotations

import platform
from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator, MPSAccelerator

from recexp.devices import host
from recexp.devices.device import Device


class MpsDevice(Device):
    """The one GPU there is."""

    kind, backend = "mps", "gloo"

    def __init__(self) -> None:
        """There is nothing to choose."""
        super().__init__()

    def available(self) -> int:
        """One, where torch can use it."""
        return int(torch.backends.mps.is_available())

    def why_not(self) -> str | None:
        """Another system, an old macOS, or a build without Metal."""
        if platform.system() != "Darwin":
            return f"it exists on Apple computers only, and this is {platform.system()}. Use device=cuda or device=cpu."
        if not torch.backends.mps.is_built():
            return f"this torch ({torch.__version__}) has no Metal. Install its macOS wheel, or use device=cpu."
        if not torch.backends.mps.is_available():
            return "Metal is not available: it needs macOS 14 or newer and an Apple GPU. Use device=cpu."
        return None

    def accelerator(self) -> Accelerator:
        """Lightning's."""
        return MPSAccelerator()

    def device_name(self) -> str:
        """The chip's."""
        return host.cpu_name()

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.mps.synchronize()

    def peak_memory_bytes(self) -> int:
        """What Metal's driver holds now: torch keeps no peak."""
        return torch.mps.driver_allocated_memory()

    def free_memory_bytes(self) -> int:
        """What Metal recommends at most, less what this process has."""
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()

    def reset_peak_memory(self) -> None:
        """Nothing to reset."""

    def _devices_flag(self) -> int:
        return 1

    def _device_rng_state(self) -> dict[str, Any]:
        return {"kind": self.kind, "state": torch.mps.get_rng_state()}

    def _set_device_rng_state(self, state: torch.Tensor) -> None:
        torch.mps.set_rng_state(state.cpu())
