"""``torch.npu``: names and signatures of torch-npu 2.13.0."""

from typing import Any

import torch

from torch_npu.npu import amp as amp
from torch_npu.npu import npu_config as npu_config
from torch_npu.npu import utils as utils
from torch_npu.npu._state import (
    _is_in_bad_fork as _is_in_bad_fork,
)
from torch_npu.npu._state import (
    _lazy_init as _lazy_init,
)
from torch_npu.npu._state import (
    device_count,
    get_device_name,
    get_device_properties,
    init,
    is_available,
    is_initialized,
    set_deterministic_level,
    utilization,
)
from torch_npu.npu.autocast_utils import (
    get_amp_supported_dtype,
    get_autocast_dtype,
    is_autocast_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from torch_npu.npu.memory import (
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    memory_summary,
    reset_accumulated_memory_stats,
    reset_peak_memory_stats,
)
from torch_npu.npu.npu_config import (
    finalize_dump,
    get_mm_bmm_format_nd,
    init_dump,
    is_jit_compile_false,
    set_aoe,
    set_compile_mode,
    set_dump,
    set_mm_bmm_format_nd,
    set_option,
    use_compatible_impl,
)
from torch_npu.npu.random import (
    get_rng_state,
    get_rng_state_all,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
    set_rng_state_all,
)
from torch_npu.npu.streams import Event, Stream
from torch_npu.npu.utils import (
    StreamContext,
    clear_npu_overflow_flag,
    current_device,
    current_stream,
    default_stream,
    device,
    device_of,
    get_npu_overflow_flag,
    is_bf16_supported,
    set_device,
    set_stream,
    stream,
    synchronize,
)

config = npu_config._npuConfig()
matmul = npu_config._allowHF32Matmul()
conv = npu_config._allowHF32Conv()
CubeMathType = npu_config._CubeMathType

__all__ = [
    "CubeMathType",
    "Event",
    "Stream",
    "StreamContext",
    "clear_npu_overflow_flag",
    "config",
    "conv",
    "current_device",
    "current_stream",
    "default_generators",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "empty_cache",
    "finalize_dump",
    "get_amp_supported_dtype",
    "get_autocast_dtype",
    "get_device_name",
    "get_device_properties",
    "get_mm_bmm_format_nd",
    "get_npu_overflow_flag",
    "get_rng_state",
    "get_rng_state_all",
    "init",
    "init_dump",
    "initial_seed",
    "is_autocast_enabled",
    "is_available",
    "is_bf16_supported",
    "is_initialized",
    "is_jit_compile_false",
    "manual_seed",
    "manual_seed_all",
    "matmul",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_aoe",
    "set_autocast_dtype",
    "set_autocast_enabled",
    "set_compile_mode",
    "set_deterministic_level",
    "set_device",
    "set_dump",
    "set_mm_bmm_format_nd",
    "set_option",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "synchronize",
    "use_compatible_impl",
    "utilization",
]


def __getattr__(name: str) -> Any:
    if name == "default_generators":
        return tuple(torch.ops.npu_host.default_generator(index) for index in range(device_count()))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
