"""Lightning's accelerator for Ascend NPUs; works in any Lightning project, without the rest of recexp."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.strategies import DDPStrategy

from recexp.devices.ascend.runtime import npu
from recexp.devices.ascend.strategies import WrapsWithoutCudaStream


class NPUAccelerator(Accelerator):
    """One kind of accelerator, ``npu``. It refuses to be given any other device."""

    def setup_device(self, device: torch.device) -> None:
        """Make ``device`` the current one.

        Raises:
            MisconfigurationException: It is no NPU. Lightning's ``strategy="auto"`` hands the CPU to an accelerator
                that it does not know, and would train there without a word.
        """
        if device.type != "npu":
            raise MisconfigurationException(
                f"accelerator='npu' was given the device {device}: Lightning's strategy='auto' does not know NPUs. Say "
                "Trainer(accelerator='npu', strategy='npu') for one, strategy='npu_ddp' for several."
            )
        npu().set_device(device)

    def setup(self, trainer: Trainer) -> None:
        """Give cached memory back before a training starts.

        Raises:
            MisconfigurationException: The strategy is Lightning's own DDP, which enters a stream of CUDA's.
        """
        if isinstance(trainer.strategy, DDPStrategy) and not isinstance(trainer.strategy, WrapsWithoutCudaStream):
            raise MisconfigurationException(
                "Lightning's own DDP strategy wraps the model on a stream of CUDA's: say strategy='npu_ddp'."
            )
        npu().empty_cache()

    def teardown(self) -> None:
        """Give cached memory back."""
        npu().empty_cache()

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        """torch-npu's memory statistics, bytes and counts, each under ``npu.``."""
        return {f"npu.{name}": value for name, value in npu().memory_stats(device).items()}

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """The indices that a ``devices`` flag means.

        Args:
            devices: A number of NPUs, -1 or "auto" for all, a list of indices, or a text of either.

        Raises:
            MisconfigurationException: None, or one that this machine does not have, or one twice.
        """
        available = NPUAccelerator.auto_device_count()
        chosen = _indices(devices, available)
        if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(available)):
            raise MisconfigurationException(
                f"devices={devices!r} means the NPUs {chosen}, but this machine has {available}: "
                f"{list(range(available))}."
            )
        return chosen

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """The devices of indices."""
        return [torch.device("npu", index) for index in devices]

    @staticmethod
    def auto_device_count() -> int:
        """NPUs that this process may use; 0 where torch-npu has not been imported."""
        return int(npu().device_count()) if hasattr(torch, "npu") else 0

    @staticmethod
    def is_available() -> bool:
        """Whether there is one."""
        return NPUAccelerator.auto_device_count() > 0

    @staticmethod
    def name() -> str:
        """``npu``."""
        return "npu"

    @classmethod
    def register_accelerators(cls, accelerator_registry: Any) -> None:
        """Make the word known to Lightning; once more does no harm."""
        accelerator_registry.register("npu", cls, description="Huawei Ascend NPU", override=True)


def _indices(devices: int | str | list[int], available: int) -> list[int]:
    try:
        if isinstance(devices, str):
            text = devices.strip()
            devices = -1 if text == "auto" else [int(part) for part in text.split(",") if part.strip()]
            if isinstance(devices, list) and "," not in text:
                (devices,) = devices
        if isinstance(devices, int):
            return list(range(available if devices == -1 else devices))
        return [int(index) for index in devices]
    except (TypeError, ValueError) as error:
        raise MisconfigurationException(
            f"devices={devices!r}: a number of NPUs, -1 for all, or a list of indices such as [0, 1]."
        ) from error
