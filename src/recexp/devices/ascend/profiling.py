"""Profiles of some updates with Ascend's own profiler, which sees the AI cores, AI CPUs and the memory of an NPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recexp.devices.ascend.runtime import torch_npu
from recexp.devices.profiling import Profile, ProfilerOptions

LEVELS = {"none": "Level_none", "0": "Level0", "1": "Level1", "2": "Level2"}
AIC_METRICS = {
    "none": "AiCoreNone",
    "pipe_utilization": "PipeUtilization",
    "arithmetic_utilization": "ArithmeticUtilization",
    "memory": "Memory",
    "memory_l0": "MemoryL0",
    "memory_ub": "MemoryUB",
    "memory_access": "MemoryAccess",
    "l2_cache": "L2Cache",
    "resource_conflict_ratio": "ResourceConflictRatio",
}
EXPORTS = {"text": "Text", "db": "Db"}
#: The profiler collects counters of the AI cores from this level on.
_LEVEL_OF_COUNTERS = "1"


def make(options: ProfilerOptions, folder: Path) -> Profile:
    """A profile by ``torch_npu.profiler``; each cycle becomes a folder whose name ends with ``_ascend_pt``.

    Its arguments have another order than torch's: they are all given by their names.
    """
    handler = torch_npu().profiler.tensorboard_trace_handler(
        # The profiler adds the time to a folder's name, so that two profiles never meet.
        dir_name=str(folder),
        worker_name=f"from-update-{options.first_update}.rank{options.rank}",
    )
    schedule = torch_npu().profiler.schedule(
        wait=options.wait,
        active=options.active,
        warmup=options.warmup,
        repeat=options.repeat,
        skip_first=options.skip_first,
    )
    profile: Profile = torch_npu().profiler.profile(
        activities=[torch_npu().profiler.ProfilerActivity.CPU, torch_npu().profiler.ProfilerActivity.NPU],
        schedule=schedule,
        on_trace_ready=handler,
        record_shapes=options.shapes,
        profile_memory=options.memory,
        with_stack=options.stack,
        with_flops=options.flops,
        experimental_config=_device_options(options),
    )
    return profile


def _device_options(options: ProfilerOptions) -> Any:
    level, counters = options.level, options.aic_metrics
    if level is None and counters not in (None, "none"):
        level = _LEVEL_OF_COUNTERS
    return torch_npu().profiler._ExperimentalConfig(
        profiler_level=getattr(torch_npu().profiler.ProfilerLevel, LEVELS[level or "0"]),
        aic_metrics=getattr(torch_npu().profiler.AiCMetrics, AIC_METRICS[counters or _default_counters(level)]),
        l2_cache=bool(options.l2_cache),
        # Without its levels the profiler records marked ranges and nothing else.
        mstx=bool(options.mstx) or level == "none",
        export_type=getattr(torch_npu().profiler.ExportType, EXPORTS[options.export or "text"]),
    )


def _default_counters(level: str | None) -> str:
    return "pipe_utilization" if level in ("1", "2") else "none"
