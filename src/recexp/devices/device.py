"""What every kind of device offers: instances for the Trainer, random states, a clock that waits, and memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy

from recexp.devices import ddp, host, profiling, rng
from recexp.devices.ddp import RecexpDDPStrategy
from recexp.devices.precision import Policy, words
from recexp.devices.profiling import Profile, ProfilerOptions
from recexp.errors import DeviceError


class Device(ABC):
    """One kind of device, and which and how many of its devices a run uses.

    Lightning is never left to choose: given an accelerator that it does not know, its "auto" takes the CPU.
    """

    #: The word of ``device=`` and torch's name of the kind.
    kind: str
    #: Of torch.distributed between several of these devices.
    backend: str
    #: How torch's optimisers are best run here, the best first: fused, foreach (lists of tensors), plain (one by one).
    optimizers: tuple[str, ...] = ("fused", "plain")

    def __init__(self, *, index: int | None = None, count: int = 1, timeout_s: float = 1800.0) -> None:
        """Choose devices; nothing is touched yet.

        Args:
            index: The device to use, or the first of several; None for the first.
            count: How many; -1 for all.
            timeout_s: After which a process waits no longer for the others.
        """
        self.index, self._count, self.timeout_s = index, count, timeout_s

    @property
    def count(self) -> int:
        """Number of devices used."""
        return self.available() - (self.index or 0) if self._count == -1 else self._count

    @property
    def devices(self) -> list[torch.device]:
        """All devices used, of all processes of this machine."""
        first = self.index or 0
        return [torch.device(self.kind, first + i) for i in range(self.count)]

    @property
    def root(self) -> torch.device:
        """This process's device."""
        return self.devices[ddp.local_rank() if self.count > 1 else 0]

    @abstractmethod
    def available(self) -> int:
        """Devices of this kind that the machine shows, without touching them."""

    @abstractmethod
    def why_not(self) -> str | None:
        """Why this kind cannot be used here, with the next thing to do; None if it can, as far as is seen."""

    @abstractmethod
    def accelerator(self) -> Accelerator:
        """A new accelerator for Lightning."""

    @abstractmethod
    def device_name(self) -> str:
        """The product's name."""

    def check(self) -> None:
        """Make sure that the devices are there and compute.

        Raises:
            DeviceError: They are not, or not so many, or an operation of one element fails.
        """
        reason = self.why_not()
        if reason is not None:
            raise DeviceError(f"device={self.kind} cannot be used: {reason}")
        self._check_processes()
        legal = range(self.available())
        for device in self.devices:
            if device.index is not None and device.index not in legal:
                raise DeviceError(
                    f"{device} was asked for (device.index={self.index}, device.count={self._count}), but this machine "
                    f"has {len(legal)}: {', '.join(f'{self.kind}:{i}' for i in legal)}."
                )
        self._try(self.root)

    def _check_processes(self) -> None:
        if self.count < 1:
            raise DeviceError(f"device.count={self._count} leaves {self.count} devices: it must be at least 1, or -1.")
        beside = ddp.started_beside()
        if beside is not None and beside != self.count:
            raise DeviceError(
                f"torchrun started {beside} processes on this machine, but device.count is {self.count}: say "
                f"device.count={beside}, or start without torchrun."
            )

    def _try(self, device: torch.device) -> None:
        try:
            result = (torch.ones(1, device=device) + 1).item()
        except RuntimeError as error:
            text = str(error).splitlines()[0]
            raise DeviceError(
                f"{device} was found, but an addition failed there: {text}. {self._advice(text)}"
            ) from error
        if result != 2:
            raise DeviceError(f"{device} computes wrongly: 1 + 1 is {result:g} there. Do not use it.")

    def profiler(self, options: ProfilerOptions, folder: Path) -> Profile:
        """A new profile of some updates, which writes into ``folder``."""
        return profiling.make(options, folder, kind=self.kind)

    def explain(self, error: RuntimeError) -> str | None:
        """What an error in the middle of a run means for the user, with the way on; None where it says nothing new."""
        if isinstance(error, torch.OutOfMemoryError):
            return (
                f"{self.root} is out of memory: {str(error).splitlines()[0]} Make dataset.batch_size smaller (with "
                "trainer.accumulate_grad_batches an update stays as large), or model sizes, or use another device."
            )
        return None

    def _advice(self, error: str) -> str:
        """The next thing to do after the error of a first operation."""
        return "See `python -m recexp task=doctor`, or use device=cpu."

    def check_precision(self, policy: Policy) -> None:
        """Make sure that a matrix product here has the type that a precision promises.

        Raises:
            DeviceError: It fails, or has another type.
        """
        operand = torch.ones(8, 8, device=self.root)
        try:
            with policy.autocast():
                product = operand @ operand
        except (RuntimeError, TypeError) as error:
            raise self._cannot(policy, str(error).splitlines()[0]) from error
        if product.dtype != policy.meaning.compute:
            raise self._cannot(policy, f"a product has the type {product.dtype}")

    def _cannot(self, policy: Policy, reason: str) -> DeviceError:
        others = ", ".join(word for word in words(policy.kind) if word != policy.word)
        return DeviceError(f"precision={policy.word} cannot work on {self.root}: {reason}. Try one of {others}.")

    def set_precision(self, policy: Policy) -> None:
        """Set what a precision needs of the process."""
        policy.activate()

    def set_deterministic(self, on: bool) -> None:
        """Refuse operators that are not deterministic, or allow them again. Before the first operation."""
        torch.use_deterministic_algorithms(on)

    def prepare(self) -> None:
        """Set what belongs to the process: here the host's threads, in kinds with several devices the current one.

        Explicitly, because launchers such as joblib set environment variables that torch would follow.
        """
        torch.set_num_threads(max(1, host.usable_cores() // self.count))

    def trainer_arguments(self, policy: Policy, checkpoint_io: CheckpointIO | None = None) -> dict[str, Any]:
        """Arguments for a Trainer, instances throughout; no accelerator or precision flag may stand beside them."""
        make = self.single_strategy if self.count == 1 else self.parallel_strategy
        return {
            "strategy": make(self.precision_plugin(policy), checkpoint_io),
            "plugins": [ddp.environment()],
            "devices": self._devices_flag(),
            "num_nodes": ddp.machines(),
        }

    def precision_plugin(self, policy: Policy) -> Precision:
        """A new plug-in for Lightning."""
        return policy.plugin()

    def single_strategy(self, precision: Precision, checkpoint_io: CheckpointIO | None) -> Strategy:
        """A new strategy for one device."""
        return SingleDeviceStrategy(
            self.root, accelerator=self.accelerator(), precision_plugin=precision, checkpoint_io=checkpoint_io
        )

    def parallel_strategy(self, precision: Precision, checkpoint_io: CheckpointIO | None) -> Strategy:
        """A new strategy for several devices."""
        # Lightning refuses parallel_devices beside an accelerator; the accelerator makes them of "devices".
        return RecexpDDPStrategy(
            accelerator=self.accelerator(),
            precision_plugin=precision,
            checkpoint_io=checkpoint_io,
            process_group_backend=self.backend,
            timeout=timedelta(seconds=self.timeout_s),
        )

    def _devices_flag(self) -> Any:
        return [device.index for device in self.devices]

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until everything submitted to this process's device is done."""

    @abstractmethod
    def peak_memory_bytes(self) -> int:
        """Largest memory held since :meth:`reset_peak_memory`."""

    def free_memory_bytes(self) -> int | None:
        """Memory that a training may still take; None where the device does not tell."""
        return None

    @abstractmethod
    def reset_peak_memory(self) -> None:
        """Start counting anew."""

    def rng_state(self) -> dict[str, Any]:
        """Random states of the host and of this process's device."""
        return {"host": rng.host_state(), "device": self._device_rng_state()}

    def set_rng_state(self, state: dict[str, Any]) -> None:
        """Put them back; a device's state is dropped where the run moved to another kind of device."""
        rng.set_host_state(state["host"])
        if state["device"] is not None and state["device"]["kind"] == self.kind:
            self._set_device_rng_state(state["device"]["state"])

    def _device_rng_state(self) -> dict[str, Any] | None:
        return None

    def _set_device_rng_state(self, state: torch.Tensor) -> None:
        raise AssertionError("a device with a random state of its own takes it back, too")

    @staticmethod
    def machine_facts() -> dict[str, str]:
        """What this machine has installed for this kind, for ``task=doctor``; importing nothing."""
        return {}

    def description(self) -> dict[str, str]:
        """Facts for the run's tags."""
        return {
            "device.resolved": ", ".join(map(str, self.devices)) if self.kind != "cpu" else "cpu",
            "device.name": self.device_name(),
            "device.count": str(self.count),
        }
