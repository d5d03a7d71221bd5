"""``device=npu``: Huawei Ascend NPUs through torch-npu; and a Lightning plug-in for everybody.

Lightning learns the words ``npu`` and ``npu_ddp`` by :func:`register`. Imports nothing of recexp's configuration.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.accelerators import Accelerator, AcceleratorRegistry
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.strategies import Strategy, StrategyRegistry

from recexp.devices import ddp
from recexp.devices.ascend import diagnosis, environment, preflight, profiling, rank_table
from recexp.devices.ascend import options as switches
from recexp.devices.ascend.accelerator import NPUAccelerator
from recexp.devices.ascend.runtime import npu, torch_npu
from recexp.devices.ascend.saturation import FlagLossScaler
from recexp.devices.ascend.strategies import NPUDDPStrategy, NPUStrategy, WrapsWithoutCudaStream
from recexp.devices.device import Device
from recexp.devices.precision import AutocastPrecision, Policy
from recexp.devices.profiling import Profile, ProfilerOptions
from recexp.devices.scaler import LossScaler
from recexp.errors import DeviceError

__all__ = [
    "NPUAccelerator",
    "NPUDDPStrategy",
    "NPURandomState",
    "NPUStrategy",
    "NpuDevice",
    "mixed_precision",
    "register",
]


def register() -> None:
    """Import torch-npu, and make ``accelerator="npu"``, ``strategy="npu"`` and ``"npu_ddp"`` known to Lightning.

    Lightning has no entry point for accelerators: call this once in each process, before the Trainer is made.

    Raises:
        ImportError: torch-npu is not installed, or CANN's libraries are not found.
    """
    torch_npu()
    NPUAccelerator.register_accelerators(AcceleratorRegistry)
    for strategy in (NPUStrategy, NPUDDPStrategy):
        if strategy.strategy_name not in StrategyRegistry:
            StrategyRegistry.register(strategy.strategy_name, strategy, description=strategy.__doc__ or "")


def mixed_precision(precision: str, *, loss_scale: float | None = None) -> MixedPrecision:
    """Mixed precision for ``Trainer(plugins=[...])``, with the Trainer's precision flag left out.

    Args:
        precision: ``"16-mixed"``, or ``"bf16-mixed"`` on chips that have bfloat16 (910B and later).
        loss_scale: ``"16-mixed"``: a scale that never changes; None adapts it.

    Raises:
        ValueError: Another precision, or a loss scale for bfloat16.
    """
    if precision not in ("16-mixed", "bf16-mixed"):
        raise ValueError(f"precision={precision!r}: one of '16-mixed', 'bf16-mixed'")
    if precision == "bf16-mixed":
        if loss_scale is not None:
            raise ValueError(f"loss_scale={loss_scale}: bfloat16 has the range of float32 and is not scaled")
        return AutocastPrecision("npu", torch.bfloat16, None)
    return AutocastPrecision("npu", torch.float16, scaler_class()("npu", static=loss_scale))


def scaler_class() -> type[LossScaler]:
    """The loss scaler that sees this chip's overflows."""
    return LossScaler if npu().utils.is_support_inf_nan() else FlagLossScaler


class NPURandomState(Callback):
    """For plain Lightning, whose own checkpoints know the random state of CUDA only: keeps this process's NPU's."""

    def __init__(self) -> None:
        self._loaded: list[torch.Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes' NPUs, byte tensors on the host, by rank. All processes call it together."""
        own = npu().get_rng_state().cpu()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {"npu": [own]}
        states: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, own)
        return {"npu": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the training starts."""
        self._loaded = state_dict["npu"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put it back."""
        if self._loaded is not None and trainer.global_rank < len(self._loaded):
            npu().set_rng_state(self._loaded[trainer.global_rank])
        self._loaded = None


class _RecexpNPUDDPStrategy(WrapsWithoutCudaStream, ddp.RecexpDDPStrategy):
    """Over HCCL, with recexp's launcher."""


class NpuDevice(Device):
    """One NPU, or several that train data parallel over HCCL."""

    kind, backend = "npu", "hccl"
    # torch-npu has no kernel behind torch's fused Adam: it would run on the host.
    optimizers = ("foreach", "plain")

    def __init__(self, *, index: int | None = None, count: int = 1, timeout_s: float = 1800.0, **options: Any) -> None:
        """Choose devices; nothing is touched yet.

        Args:
            index: The NPU to use, or the first of several; None for the first.
            count: How many; -1 for all.
            timeout_s: After which a process waits no longer for the others.
            options: The other options of conf/device/npu.yaml, for torch-npu, CANN and HCCL.
        """
        super().__init__(index=index, count=count, timeout_s=timeout_s)
        self.options: dict[str, Any] = options

    def available(self) -> int:
        """NPUs that the driver shows."""
        return int(npu().device_count())

    def why_not(self) -> str | None:
        """No torch-npu, one of another release, no CANN, or no chip."""
        reason = diagnosis.why_not() or preflight.load()
        if reason is not None:
            return reason
        return None if npu().device_count() else diagnosis.no_chip()

    def check(self) -> None:
        """All that :mod:`recexp.devices.ascend.preflight` looks at, and the processes beside this one."""
        switches.check(self.options)
        preflight.check({**self.options, "index": self.index, "count": self._count})
        self._check_processes()
        self._check_ranks()

    def _check_ranks(self) -> None:
        path = rank_table.check(self.options.get("rank_table"))
        listed = len(rank_table.read(path)) if path is not None and self.count > 1 else None
        wanted = self.count * ddp.machines()
        if listed not in (None, wanted):
            raise DeviceError(f"{path} lists {listed} ranks, but {wanted} processes take part: write it anew.")
        if path is not None and self.count > 1 and ddp.machines() == 1:
            named = [number for _, _, number in rank_table.read(path)]
            chosen = [diagnosis.physical(device.index) for device in self.devices]
            if named != chosen:
                raise DeviceError(f"{path} is for the NPUs {named}, but {chosen} were asked for: write it anew.")

    def accelerator(self) -> Accelerator:
        """Ours."""
        return NPUAccelerator()

    def device_name(self) -> str:
        """Of this process's chip."""
        return str(npu().get_device_name(self.root))

    def prepare(self) -> None:
        """Make it the current device and set torch-npu's switches."""
        super().prepare()
        npu().set_device(self.root)
        switches.apply(self.options)

    def set_precision(self, policy: Policy) -> None:
        """With what CANN may do to an operator in float32."""
        super().set_precision(policy)
        switches.set_precision_mode(allow_fp16=policy.word == switches.ALLOWED_FP16)

    def check_precision(self, policy: Policy) -> None:
        """Refuse bfloat16 where the chip would only imitate it."""
        if policy.meaning.autocast == torch.bfloat16 and not npu().is_bf16_supported():
            raise self._cannot(policy, "the chip has no bfloat16 (it came with the 910B)")
        super().check_precision(policy)

    def set_deterministic(self, on: bool) -> None:
        """With reductions between chips in a fixed order."""
        self.options["deterministic"] = on or None
        environment.export(self.options)
        super().set_deterministic(on)

    def precision_plugin(self, policy: Policy) -> Precision:
        """With the scaler that sees this chip's overflows."""
        return policy.plugin(scaler_class())

    def single_strategy(self, precision: Precision, checkpoint_io: CheckpointIO | None) -> Strategy:
        """Ours."""
        return NPUStrategy(
            self.root, accelerator=self.accelerator(), precision_plugin=precision, checkpoint_io=checkpoint_io
        )

    def parallel_strategy(self, precision: Precision, checkpoint_io: CheckpointIO | None) -> Strategy:
        """Ours, over HCCL."""
        return _RecexpNPUDDPStrategy(
            accelerator=self.accelerator(),
            precision_plugin=precision,
            checkpoint_io=checkpoint_io,
            process_group_backend=self.backend,
            timeout=timedelta(seconds=self.timeout_s),
        )

    def profiler(self, options: ProfilerOptions, folder: Path) -> Profile:
        """Ascend's own."""
        return profiling.make(options, folder)

    def explain(self, error: RuntimeError) -> str | None:
        """What an error of CANN's runtime in the middle of a run means."""
        advice = diagnosis.explain(str(error))
        if advice is None or isinstance(error, torch.OutOfMemoryError):
            return super().explain(error)
        return f"{self.root} failed: {str(error).splitlines()[0]} {advice}"

    def synchronize(self) -> None:
        """Wait for the NPU."""
        npu().synchronize(self.root)

    def peak_memory_bytes(self) -> int:
        """Of torch-npu's allocator on this process's NPU."""
        return int(npu().max_memory_allocated(self.root))

    def free_memory_bytes(self) -> int:
        """Of this process's device."""
        return int(npu().mem_get_info(self.root)[0])

    def reset_peak_memory(self) -> None:
        """Of torch-npu's allocator."""
        npu().reset_peak_memory_stats(self.root)

    def _device_rng_state(self) -> dict[str, Any]:
        return {"kind": self.kind, "state": npu().get_rng_state(self.root)}

    def _set_device_rng_state(self, state: torch.Tensor) -> None:
        npu().set_rng_state(state.cpu(), self.root)

    @staticmethod
    def machine_facts() -> dict[str, str]:
        """CANN, driver, firmware and chips."""
        return diagnosis.facts()

    def description(self) -> dict[str, str]:
        """With CANN, the memory and the switches that are not torch-npu's own."""
        total = npu().get_device_properties(self.root).total_memory
        changed = {f"device.{name}": str(value) for name, value in self.options.items() if value not in (None, [], {})}
        return {
            **super().description(),
            "device.memory_gib": f"{total / 2**30:.1f}",
            "device.cann": diagnosis.cann(),
            **changed,
        }
