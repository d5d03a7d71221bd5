"""``device=cuda``: NVIDIA GPUs (and AMD's, which torch shows under the same name)."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator, CUDAAccelerator

from recexp.devices.device import Device


class CudaDevice(Device):
    """One GPU, or several that train data parallel over NCCL."""

    kind, backend = "cuda", "nccl"

    def available(self) -> int:
        """GPUs that the driver shows."""
        return torch.cuda.device_count()

    def why_not(self) -> str | None:
        """A build of torch without CUDA, no driver, or no GPU."""
        if not torch.backends.cuda.is_built():
            return (
                f"this torch ({torch.__version__}) is a build without CUDA. Install the CUDA build of torch==2.13.0 "
                "into this environment, or use device=cpu."
            )
        if not torch.cuda.is_available():
            return (
                "no usable NVIDIA driver or GPU was found. Check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use "
                "device=cpu."
            )
        return None

    def accelerator(self) -> Accelerator:
        """Lightning's."""
        return CUDAAccelerator()

    def device_name(self) -> str:
        """Of this process's GPU."""
        return torch.cuda.get_device_name(self.root)

    def prepare(self) -> None:
        """Make it the current device."""
        torch.cuda.set_device(self.root)

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize(self.root)

    def peak_memory_bytes(self) -> int:
        """Of torch's allocator on this process's GPU."""
        return torch.cuda.max_memory_allocated(self.root)

    def reset_peak_memory(self) -> None:
        """Of torch's allocator."""
        torch.cuda.reset_peak_memory_stats(self.root)

    def _device_rng_state(self) -> dict[str, Any]:
        return {"kind": self.kind, "state": torch.cuda.get_rng_state(self.root)}

    def _set_device_rng_state(self, state: torch.Tensor) -> None:
        torch.cuda.set_rng_state(state.cpu(), self.root)

    def description(self) -> dict[str, str]:
        """With CUDA's version and the memory."""
        total = torch.cuda.get_device_properties(self.root).total_memory
        return {
            **super().description(),
            "device.cuda": str(torch.version.cuda or torch.version.hip),
            "device.memory_gib": f"{total / 2**30:.1f}",
        }
