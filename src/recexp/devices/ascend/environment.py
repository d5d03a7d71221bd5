"""Options of ``device=npu`` that torch-npu, CANN and HCCL read from the environment. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recexp.errors import DeviceError


@dataclass(frozen=True)
class Variable:
    """One environment variable and the option that sets it.

    Attributes:
        option: Name under ``device``.
        render: Its text for a value of the option.
        fixed: torch-npu reads it once, when it is imported or first used.
        source: Who reads it.
    """

    option: str
    render: Callable[[Any], str]
    fixed: bool
    source: str


def _absolute(value: Any) -> str:
    return str(Path(value).expanduser().absolute())


def _whole(value: Any) -> str:
    return str(int(value))


_FALLBACK = {"error": "1", "warn": "0"}

VARIABLES: dict[str, Variable] = {
    "RANK_TABLE_FILE": Variable("rank_table", _absolute, False, "torch-npu"),
    "HCCL_CONNECT_TIMEOUT": Variable("hccl_connect_timeout_s", _whole, False, "torch-npu and HCCL"),
    "HCCL_EXEC_TIMEOUT": Variable("hccl_exec_timeout_s", _whole, False, "torch-npu and HCCL"),
    "PYTORCH_NPU_ALLOC_CONF": Variable("allocator", str, True, "torch-npu"),
    "TASK_QUEUE_ENABLE": Variable("task_queue", _whole, True, "torch-npu"),
    "TORCH_NPU_FALLBACK_CPU_DISABLE": Variable(
        "cpu_fallback", {"error": "1", "warn": "0"}.__getitem__, True, "torch-npu"
    ),
    "INF_NAN_MODE_ENABLE": Variable("inf_nan", lambda on: "1" if on else "0", True, "torch-npu"),
    # Chips that know infinities refuse INF_NAN_MODE_ENABLE=0 unless this says that it is meant.
    "INF_NAN_MODE_FORCE_DISABLE": Variable("inf_nan", lambda on: "0" if on else "1", True, "torch-npu"),
    "HCCL_DETERMINISTIC": Variable("deterministic", lambda on: "true" if on else "false", False, "torch-npu and HCCL"),
}

#: What the user's environment said before the first job of this process changed it.
_users_own: dict[str, str | None] = {}


def export(options: Mapping[str, Any]) -> None:
    """Set the variables of the options that are not None; the others keep what the user's environment says.

    Args:
        options: By name under ``device``; names without a variable are passed over.

    Raises:
        DeviceError: torch-npu has read a variable in this process already, with another value.
    """
    for name, variable in VARIABLES.items():
        own = _users_own.setdefault(name, os.environ.get(name))
        value = options.get(variable.option)
        wanted = own if value is None else variable.render(value)
        if wanted == os.environ.get(name):
            continue
        if variable.fixed and "torch_npu" in sys.modules:
            loaded_with, asked = os.environ.get(name) or "unset", wanted or "unset"
            raise DeviceError(
                f"device.{variable.option} ({name}) was {loaded_with} when torch-npu was loaded into this process and "
                f"cannot become {asked}: start this job as a process of its own."
            )
        if wanted is None:
            del os.environ[name]
        else:
            os.environ[name] = wanted
