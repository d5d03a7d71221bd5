"""Looks at the NPUs before anything slow is imported, so that what is missing is said within seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from recexp.devices.ascend import diagnosis, environment, rank_table
from recexp.errors import DeviceError


def run(options: Mapping[str, Any]) -> None:
    """Check the composed ``device`` group.

    Raises:
        DeviceError: torch-npu, CANN, a chip, enough chips or a chip that computes is missing, or the rank table.
    """
    check(options)


def check(options: Mapping[str, Any]) -> None:
    """See :func:`run`; torch and torch-npu are imported where everything before is there."""
    refuse(diagnosis.why_not())
    rank_table.check(options.get("rank_table"))
    environment.export(options)
    available = count_devices()
    first, count = options.get("index") or 0, options.get("count", 1)
    wanted = available - first if count == -1 else count
    if wanted < 1 or first + wanted > available:
        raise DeviceError(too_few(first, count, available))
    compute(first + (local_rank() if wanted > 1 else 0))


def refuse(reason: str | None) -> None:
    """Raise where there is a reason to."""
    if reason is not None:
        raise DeviceError(f"device=npu cannot be used: {reason}")


def count_devices() -> int:
    """Import torch-npu and count the chips.

    Raises:
        DeviceError: It cannot be imported, or there is none.
    """
    refuse(load())
    from recexp.devices.ascend.runtime import npu

    count: int = _asked(lambda: int(npu().device_count()))
    if not count:
        refuse(diagnosis.no_chip())
    return count


def load() -> str | None:
    """Import torch-npu; returns why that fails."""
    try:
        from recexp.devices.ascend.runtime import torch_npu

        torch_npu()
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever it likes
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "cannot open shared object file" in text or "set_env.sh" in text or "ASCEND_" in text:
            return diagnosis.library_missing(text)
        if "Two accelerators" in text:
            return (
                f"torch-npu refuses to work beside a GPU that this torch can use ({text}). Install the CPU build of "
                "torch into an environment of its own, or use device=cuda."
            )
        return (
            f"torch-npu cannot be imported: {type(error).__name__}: {text}. Type "
            "`pip install --force-reinstall --no-deps 'torch-npu'` in the version of torch, or use device=cpu."
        )
    return None


def too_few(first: int, count: int, available: int) -> str:
    """The sentence where fewer chips are there than were asked for."""
    asked = f"device.index={first}, device.count={count}" if first else f"device.count={count}"
    legal = ", ".join(f"npu:{index}" for index in range(available))
    return (
        f"device=npu cannot be used: {asked} was asked for, but this machine has {available}: {legal}. Say "
        f"device.index=0 device.count={available} or less; `npu-smi info` shows the chips."
    )


def local_rank() -> int:
    """This process's number among those of this machine."""
    started = "RECEXP_LAUNCHER_PID" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    return int(os.environ.get("LOCAL_RANK", "0")) if started else 0


def compute(index: int) -> None:
    """Add one and one on a chip.

    Raises:
        DeviceError: It is busy, fails, or computes wrongly.
    """
    import torch

    from recexp.devices.ascend.runtime import npu

    def add() -> float:
        npu().set_device(index)
        return float((torch.ones(1, device=torch.device("npu", index)) + 1).item())

    result = _asked(add, f"npu:{index}")
    if result != 2:
        raise DeviceError(f"npu:{index} computes wrongly: 1 + 1 is {result:g} there. Do not use it.")


def _asked(question: Callable[[], Any], what: str = "the driver") -> Any:
    try:
        return question()
    except RuntimeError as error:
        text = " ".join(str(error).split())
        advice = diagnosis.explain(text) or "See `npu-smi info` and `python -m recexp task=doctor`, or use device=cpu."
        raise DeviceError(f"device=npu cannot be used: {what} was asked and failed: {text[:300]}. {advice}") from error
