"""Lightning's strategies for one NPU and for several; work in any Lightning project, without the rest of recexp."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel


def refuse_foreign_autocast(precision: Precision) -> None:
    """Raise where a precision opens autocast for another kind of device.

    ``Trainer(precision="16-mixed")`` makes Lightning open it for CUDA: the step would run in float32 while
    Lightning says "Using 16bit Automatic Mixed Precision".

    Raises:
        MisconfigurationException: Says what to write instead.
    """
    if isinstance(precision, MixedPrecision) and precision.device != "npu":
        word = precision.precision
        raise MisconfigurationException(
            f"precision={word!r} opens autocast for {precision.device!r}: an NPU would compute in float32 all the same."
            f" Leave the precision flag out and say plugins=[mixed_precision({word!r})], from recexp.devices.npu."
        )


class NPUStrategy(SingleDeviceStrategy):
    """One NPU. ``Trainer(accelerator="npu", strategy="npu", devices=[1])`` runs on ``npu:1``."""

    strategy_name = "npu"

    def __init__(
        self, device: torch.device | str | int | None = None, accelerator: Accelerator | None = None, **options: Any
    ) -> None:
        """Choose the device; None takes what the Trainer's ``devices`` flag says."""
        self._chosen = device is not None
        device = torch.device("npu", device) if isinstance(device, int) else torch.device(device or "npu:0")
        super().__init__(device=device, accelerator=accelerator, **options)

    @property
    def parallel_devices(self) -> list[torch.device]:
        """Empty, which makes the Trainer hand its devices over."""
        return []

    @parallel_devices.setter
    def parallel_devices(self, devices: list[torch.device]) -> None:
        if self._chosen:
            if self._root_device not in devices:
                raise MisconfigurationException(f"NPUStrategy('{self._root_device}') and devices={devices} contradict.")
        elif len(devices) != 1:
            raise MisconfigurationException(
                f"strategy='npu' runs on one NPU, but devices means {devices}: say devices=1, or strategy='npu_ddp'."
            )
        else:
            self._root_device = torch.device(devices[0])

    def setup(self, trainer: Trainer) -> None:
        """As Lightning's, unless the precision belongs to another kind of device."""
        refuse_foreign_autocast(self.precision_plugin)
        super().setup(trainer)


class WrapsWithoutCudaStream:
    """For DDP strategies: wraps the model on the current stream, where Lightning's own enters one of CUDA's."""

    def _setup_model(self, model: Module) -> DistributedDataParallel:
        assert isinstance(self, DDPStrategy)
        return DistributedDataParallel(module=model, device_ids=self.determine_ddp_device_ids(), **self._ddp_kwargs)

    def setup(self, trainer: Trainer) -> None:
        """As Lightning's, unless the precision belongs to another kind of device."""
        assert isinstance(self, DDPStrategy)
        refuse_foreign_autocast(self.precision_plugin)
        DDPStrategy.setup(self, trainer)


class NPUDDPStrategy(WrapsWithoutCudaStream, DDPStrategy):
    """Several NPUs, data parallel over HCCL."""

    strategy_name = "npu_ddp"

    def __init__(self, *, process_group_backend: str = "hccl", **options: Any) -> None:
        """As Lightning's, with the back end named: Lightning would ask torch for the device's default."""
        super().__init__(process_group_backend=process_group_backend, **options)
