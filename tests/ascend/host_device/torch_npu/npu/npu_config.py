"""Options of the operator compiler and of precision. They are checked as the real ones are, then only remembered."""

import inspect
import os
import warnings
from enum import IntEnum
from pathlib import Path

from torch_npu import _host
from torch_npu._errors import NOT_FOUND, PARAM, TYPE, pta_error
from torch_npu.npu._state import _lazy_init, is_initialized
from torch_npu.npu.utils import synchronize

_option_map = {
    "ACL_PRECISION_MODE": ["allow_fp32_to_fp16", "must_keep_origin_dtype"],
    "ACL_OP_SELECT_IMPL_MODE": ["high_performance", "high_precision"],
    "ACL_AICORE_NUM": (lambda value: value.isdigit() and 1 <= int(value) <= 32),
    "ACL_OPTYPELIST_FOR_IMPLMODE": None,
    "ACL_OP_DEBUG_LEVEL": ["0", "1", "2", "3", "4"],
    "ACL_DEBUG_DIR": None,
    "ACL_OP_COMPILER_CACHE_MODE": ["disable", "enable", "force"],
    "ACL_OP_COMPILER_CACHE_DIR": None,
    "ACL_OP_DEBUG_OPTION": None,
}
_deprecated = {"ACL_OP_SELECT_IMPL_MODE", "ACL_OPTYPELIST_FOR_IMPLMODE"}

# Options that have a switch of their own, and the name under which a test finds them in _host.settings.
_switches = {
    "ALLOW_INTERNAL_FORMAT": "allow_internal_format",
    "ALLOW_MATMUL_HF32": "hf32.matmul",
    "ALLOW_CONV_HF32": "hf32.conv",
    "CUBE_MATH_TYPE": "cube_math_type",
    "MM_BMM_ND_ENABLE": "mm_bmm_format_nd",
    "TORCH_NPU_USE_COMPATIBLE_IMPL": "compatible_impl",
    "autotune": "aoe",
    "autotunegraphdumppath": "aoe.path",
    "jitCompile": "jit_compile",
    "mdldumpconfigpath": "dump.path",
    "mdldumpswitch": "dump",
}
_as_bool = {"enable": True, "disable": False}


class _CubeMathType(IntEnum):
    KEEP_DTYPE = 0
    ALLOW_FP32_DOWN_PRECISION = 1
    USE_FP16 = 2
    USE_HF32 = 3
    USE_FP32_ADD = 4


def _set(options: dict[str, str]) -> None:
    """The part that the real package does in C++."""
    for name, value in options.items():
        if name in _switches:
            _host.settings[_switches[name]] = _as_bool.get(value, value)
        elif name in _option_map:
            _host.settings[f"option:{name}"] = value
        else:
            raise RuntimeError(f"invalid npu option name:{name}")


def _is_legal(name: str, value: str) -> bool:
    legal = _option_map.get(name)
    if legal is None:
        return True
    return legal(value) if callable(legal) else value in legal


def set_option(option):
    if not isinstance(option, dict):
        raise TypeError("npu option must be a dict." + pta_error(*PARAM))
    for name, value in option.items():
        if not _is_legal(name, str(value)):
            legal = _option_map[name]
            shown = inspect.getsource(legal) if callable(legal) else legal
            raise ValueError(f"value of {name} should be in {shown} but got {value}" + pta_error(*PARAM))
        option[name] = str(value)
        if name in _deprecated:
            warnings.warn(
                f"{name} will be deprecated in a future version. The accuracy or performance may not be optimal when "
                "configuring this option. We do not recommend setting it.",
                stacklevel=2,
            )
    _set(option)


def init_dump():
    _set({"mdldumpswitch": "enable"})


def set_dump(cfg_file):
    if not Path(cfg_file).exists():
        raise AssertionError(f"cfg_file {cfg_file} path does not exists." + pta_error(*NOT_FOUND))
    _set({"mdldumpconfigpath": os.path.realpath(cfg_file)})


def finalize_dump():
    _set({"mdldumpswitch": "disable"})


def set_compile_mode(jit_compile=False):
    if is_initialized():
        synchronize()
    _set({"jitCompile": "enable" if jit_compile else "disable"})


def is_jit_compile_false() -> bool:
    _lazy_init()
    return not _host.settings.get("jit_compile", False)


def set_aoe(dump_path):
    try:
        Path(dump_path).mkdir(parents=True, exist_ok=True)
    except TypeError:
        raise TypeError("Type of dump_path is invalid." + pta_error(*TYPE)) from None
    except OSError:
        raise OSError("Value of dump_path is invalid." + pta_error(10, "system call failed")) from None
    _set({"autotune": "enable", "autotunegraphdumppath": str(dump_path)})


def set_mm_bmm_format_nd(is_nd=True):
    _set({"MM_BMM_ND_ENABLE": "enable" if is_nd else "disable"})


def get_mm_bmm_format_nd():
    return _host.settings.get("mm_bmm_format_nd", True)


def use_compatible_impl(is_enable):
    _set({"TORCH_NPU_USE_COMPATIBLE_IMPL": "1" if is_enable else "0"})


def _check_bool(value) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"allow_hf32 must be a bool, but got {type(value).__name__}" + pta_error(*TYPE))


class _npuConfig:
    """``torch.npu.config``: it can be written, not read."""

    @classmethod
    def __setattr__(cls, name, value):
        if name == "allow_internal_format":
            _set({"ALLOW_INTERNAL_FORMAT": "enable" if value else "disable"})


class _allowHF32Matmul:
    """``torch.npu.matmul``: without HF32 unless it is allowed. Unknown names are ignored, as by the real one."""

    @classmethod
    def __setattr__(cls, name, value):
        if name == "allow_hf32":
            _check_bool(value)
            _set({"ALLOW_MATMUL_HF32": "enable" if value else "disable"})
        elif name == "cube_math_type":
            if not isinstance(value, _CubeMathType):
                raise TypeError(f"value should be one of Enum CubeMathType, but got {type(value)}")
            _set({"CUBE_MATH_TYPE": str(value.value)})

    @classmethod
    def __getattr__(cls, name):
        if name == "allow_hf32":
            return _host.settings.get("hf32.matmul", False)
        if name == "cube_math_type" and "cube_math_type" in _host.settings:
            return _CubeMathType(int(_host.settings["cube_math_type"]))
        return None


class _allowHF32Conv:
    """``torch.npu.conv``: with HF32 unless it is forbidden."""

    @classmethod
    def __setattr__(cls, name, value):
        if name == "allow_hf32":
            _check_bool(value)
            _set({"ALLOW_CONV_HF32": "enable" if value else "disable"})

    @classmethod
    def __getattr__(cls, name):
        return _host.settings.get("hf32.conv", True) if name == "allow_hf32" else None
