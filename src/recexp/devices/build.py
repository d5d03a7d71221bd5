"""From the ``device`` and ``precision`` groups to a device that works, a precision that is legal there, and proof."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Module

from recexp.config import targets
from recexp.devices import ddp
from recexp.devices.device import Device
from recexp.devices.precision import Policy, name, resolve
from recexp.errors import DeviceError, RecexpError

_FACTS = {"name", "_target_", "precisions", "preflight"}


def build(
    device: Mapping[str, Any], precision: Mapping[str, Any], *, deterministic: bool = False
) -> tuple[Device, Policy]:
    """The device, checked and prepared, and what the precision's word means on it.

    Args:
        device: The composed group.
        precision: The composed group.
        deterministic: Refuse operators that are not deterministic.

    Raises:
        DeviceError: Either cannot be had here.
    """
    ddp.leave()
    built = make(device)
    policy = resolve(built.kind, precision)
    built.set_deterministic(deterministic)
    built.check()
    built.prepare()
    built.set_precision(policy)
    built.check_precision(policy)
    return built, policy


@contextmanager
def explained(device: Device) -> Iterator[None]:
    """Say what an error of the device in the block means, where the device knows.

    Raises:
        RecexpError: With the way on.
    """
    try:
        yield
    except RuntimeError as error:
        meaning = device.explain(error)
        if meaning is None:
            raise
        raise RecexpError(meaning) from error


def make(device: Mapping[str, Any]) -> Device:
    """The device of a group, unchecked (``auto`` alone has looked for one that works)."""
    made: Device = targets.load(device["_target_"])(**{key: device[key] for key in device if key not in _FACTS})
    return made


def assert_placement(
    module: Module, device: Device, policy: Policy, products: Collection[tuple[str, torch.dtype]] = ()
) -> dict[str, str]:
    """Compare where a module is, and in which types, with what was asked for.

    Args:
        module: Built and moved by the Trainer.
        device: Asked for.
        policy: Asked for.
        products: Kind of device and dtype of the matrix products of a step, where one was looked at.

    Returns:
        Facts for the run's tags.

    Raises:
        DeviceError: They differ. Training on the wrong device or in the wrong type is never silent.
    """
    for label, parameter in module.named_parameters():
        if parameter.device != torch.empty(0, device=device.root).device:
            raise DeviceError(f"{label} is on {parameter.device}, but {device.root} was asked for.")
        if parameter.dtype != policy.meaning.parameters:
            raise DeviceError(
                f"{label} is {name(parameter.dtype)}, but precision={policy.word} keeps parameters in "
                f"{name(policy.meaning.parameters)}."
            )
    asked = (device.kind, policy.meaning.compute)
    if policy.fp32_blocks and asked not in products:
        # Every product of this model is in a part that the user keeps in float32.
        asked = (device.kind, torch.float32)
    if products and (asked not in products or {kind for kind, _ in products} != {device.kind}):
        found = ", ".join(sorted(f"{name(dtype)} on {kind}" for kind, dtype in products))
        raise DeviceError(
            f"precision={policy.word} on {device.kind} means products in {name(asked[1])}, but the first step computed "
            f"them in {found}."
        )
    computed = {"precision.computed": name(asked[1])} if products else {}
    return {**device.description(), "precision.asked": policy.word, "precision.resolved": policy.describe(), **computed}
