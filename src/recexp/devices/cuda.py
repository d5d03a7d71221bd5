"""``device=cuda``: NVIDIA GPUs (and AMD's, which torch shows under the same name)."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator, CUDAAccelerator

from recexp.devices.device import Device
from recexp.devices.precision import Policy


class CudaDevice(Device):
    """One GPU, or several that train data parallel over NCCL."""

    kind, backend = "cuda", "nccl"
    optimizers = ("fused", "foreach", "plain")

    def available(self) -> int:
        """GPUs that the driver shows."""
        return torch.cuda.device_count()

    def why_not(self) -> str | None:
        """A build of torch without CUDA, no driver, or no GPU."""
        if torch.version.cuda is None and torch.version.hip is None:
            return (
                f"this torch ({torch.__version__}) is a build without CUDA. Install the CUDA build of "
                f"torch=={torch.__version__.partition('+')[0]} into this environment, or use device=cpu."
            )
        if torch.cuda.device_count():
            return None
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            return (
                f"CUDA_VISIBLE_DEVICES='{visible}' shows no GPU. Type `unset CUDA_VISIBLE_DEVICES`, or use device=cpu."
            )
        if shutil.which("nvidia-smi") is None and torch.version.hip is None:
            return "there is no NVIDIA driver on this machine. Install it, until `nvidia-smi` works, or use device=cpu."
        return "the driver shows no GPU. See what `nvidia-smi` says, or use device=cpu."

    def accelerator(self) -> Accelerator:
        """Lightning's."""
        return CUDAAccelerator()

    def device_name(self) -> str:
        """Of this process's GPU."""
        return torch.cuda.get_device_name(self.root)

    def _advice(self, error: str) -> str:
        others = f"Choose another GPU with device.index (0 to {self.available() - 1}), or use device=cpu."
        if "out of memory" in error:
            return f"Its memory is full: `nvidia-smi` shows by whom. {others}"
        if "busy or unavailable" in error:
            return f"Another process has it for itself: `nvidia-smi` shows which. {others}"
        if "no kernel image" in error:
            return "This build of torch has no kernels for a GPU of that age: install another build, or use device=cpu."
        if "driver" in error:
            return "Update the NVIDIA driver (`nvidia-smi` shows its version), or use device=cpu."
        return f"See `nvidia-smi`. {others}"

    def check_precision(self, policy: Policy) -> None:
        """Refuse bfloat16 where the GPU would only imitate it."""
        if policy.meaning.autocast == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise self._cannot(policy, "it has no bfloat16 (compute capability below 8.0)")
        super().check_precision(policy)

    def set_deterministic(self, on: bool) -> None:
        """With the workspace that cuBLAS needs for it."""
        if on:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        super().set_deterministic(on)

    def prepare(self) -> None:
        """Make it the current device."""
        super().prepare()
        torch.cuda.set_device(self.root)

    def synchronize(self) -> None:
        """Wait for the GPU."""
        torch.cuda.synchronize(self.root)

    def peak_memory_bytes(self) -> int:
        """Of torch's allocator on this process's GPU."""
        return torch.cuda.max_memory_allocated(self.root)

    def free_memory_bytes(self) -> int:
        """Of this process's device."""
        return int(torch.cuda.mem_get_info(self.root)[0])

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
