"""Switches of torch-npu that are set by a call, once it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recexp.devices.ascend.runtime import npu
from recexp.errors import DeviceError

#: Keys of ``device.acl`` and their legal values; None: any text. Source: torch_npu/npu/npu_config.py (2.13.0).
ACL_OPTIONS: dict[str, tuple[str, ...] | None] = {
    "ACL_OP_DEBUG_LEVEL": ("0", "1", "2", "3", "4"),
    "ACL_OP_DEBUG_OPTION": None,
    "ACL_DEBUG_DIR": None,
    "ACL_OP_COMPILER_CACHE_MODE": ("disable", "enable", "force"),
    "ACL_OP_COMPILER_CACHE_DIR": None,
    "ACL_AICORE_NUM": tuple(str(number) for number in range(1, 33)),
}
#: Switches without a way back that a job of this process has set.
_set: set[str] = set()
#: What CANN may do to an operator in float32, by word of ``precision=``.
ALLOWED_FP16 = "allow_fp32_to_fp16"
KEEP_DTYPE = "must_keep_origin_dtype"


def check(options: Mapping[str, Any]) -> None:
    """Compare the switches with each other, and ``device.acl`` with what torch-npu takes.

    Raises:
        DeviceError: A key or value is not legal, or has no effect.
    """
    if options.get("op_impl_types") and not options.get("op_impl_mode"):
        raise DeviceError("device.op_impl_types has no effect without device.op_impl_mode: set that too.")
    check_acl(options.get("acl") or {})


def check_acl(options: Mapping[str, Any]) -> None:
    """See :func:`check`."""
    for key, value in options.items():
        if key not in ACL_OPTIONS:
            raise DeviceError(f"device.acl has no key {key}. Legal: {', '.join(ACL_OPTIONS)}.")
        legal = ACL_OPTIONS[key]
        if legal is not None and str(value) not in legal:
            raise DeviceError(f"device.acl.{key}={value}: one of {', '.join(legal)}.")


def apply(options: Mapping[str, Any]) -> None:
    """Set the switches of the composed ``device`` group; what is None stays as torch-npu has it.

    HF32, a float32 with 10 bits of mantissa inside the matrix unit, is off unless asked for: torch-npu has it on in
    convolutions.
    """
    npu().set_compile_mode(jit_compile=bool(options.get("jit_compile")))
    npu().config.allow_internal_format = bool(options.get("internal_format"))
    npu().matmul.allow_hf32 = bool(options.get("hf32"))
    npu().conv.allow_hf32 = bool(options.get("hf32"))
    wanted = _without_a_way_back(options)
    for name in sorted(_set - wanted.keys()):
        raise DeviceError(
            f"{name} was set by an earlier job of this process, and torch-npu cannot unset it: start this job as a "
            "process of its own."
        )
    _set.update(wanted)
    if options.get("op_impl_mode"):
        npu().set_option({"ACL_OP_SELECT_IMPL_MODE": options["op_impl_mode"]})
    if options.get("op_impl_types"):
        npu().set_option({"ACL_OPTYPELIST_FOR_IMPLMODE": ",".join(options["op_impl_types"])})
    for key, value in (options.get("acl") or {}).items():
        npu().set_option({key: str(value)})
    if options.get("aoe_dir"):
        npu().set_aoe(dump_path=str(Path(options["aoe_dir"]).expanduser().absolute()))


def _without_a_way_back(options: Mapping[str, Any]) -> dict[str, Any]:
    """The switches that were asked for and that torch-npu cannot unset, by their full names."""
    named = {f"device.{name}": options.get(name) for name in ("op_impl_mode", "op_impl_types", "aoe_dir")}
    acl = {f"device.acl.{key}": value for key, value in (options.get("acl") or {}).items()}
    return {name: value for name, value in {**named, **acl}.items() if value not in (None, [], "")}


def set_precision_mode(*, allow_fp16: bool) -> None:
    """Let CANN replace float32 operators by float16 ones, or forbid it."""
    npu().set_option({"ACL_PRECISION_MODE": ALLOWED_FP16 if allow_fp16 else KEEP_DTYPE})
