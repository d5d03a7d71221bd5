"""``torch_npu.profiler`` over ``torch.profiler``: the real names, argument order and members; the host's operators.

A trace lands where the real one does: ``<dir>/<worker>_<pid>_<time>_ascend_pt/ASCEND_PROFILER_OUTPUT/trace_view.json``.
"""

import os
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from torch_npu import _host
from torch_npu.npu._state import _lazy_init

__all__ = [
    "AiCMetrics",
    "ExportType",
    "HostSystem",
    "ProfilerAction",
    "ProfilerActivity",
    "ProfilerLevel",
    "_ExperimentalConfig",
    "profile",
    "schedule",
    "supported_activities",
    "supported_ai_core_metrics",
    "supported_export_type",
    "supported_profiler_level",
    "tensorboard_trace_handler",
]


class ProfilerActivity(Enum):
    """Where to look."""

    CPU = 0
    NPU = 1


class ProfilerAction(Enum):
    """What to do in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


class ProfilerLevel:
    """How much is collected."""

    Level0 = "Level0"
    Level1 = "Level1"
    Level2 = "Level2"
    Level_none = "Level_none"


class AiCMetrics:
    """What the AI cores count."""

    PipeUtilization = "ACL_AICORE_PIPE_UTILIZATION"
    ArithmeticUtilization = "ACL_AICORE_ARITHMETIC_UTILIZATION"
    Memory = "ACL_AICORE_MEMORY_BANDWIDTH"
    MemoryL0 = "ACL_AICORE_L0B_AND_WIDTH"
    MemoryUB = "ACL_AICORE_MEMORY_UB"
    ResourceConflictRatio = "ACL_AICORE_RESOURCE_CONFLICT_RATIO"
    L2Cache = "ACL_AICORE_L2_CACHE"
    MemoryAccess = "ACL_AICORE_MEMORY_ACCESS"
    AiCoreNone = "ACL_AICORE_NONE"


class ExportType:
    """How results are written."""

    Db = "db"
    Text = "text"


class HostSystem:
    """What of the host is watched."""

    CPU = "cpu"
    MEM = "mem"
    DISK = "disk"
    NETWORK = "network"
    OSRT = "osrt"
    NUMA = "numa"


def _members(names: type) -> set[str]:
    return {value for name, value in vars(names).items() if not name.startswith("__")}


def supported_activities():
    return set(ProfilerActivity)


def supported_profiler_level():
    return _members(ProfilerLevel)


def supported_ai_core_metrics():
    return _members(AiCMetrics)


def supported_export_type():
    return _members(ExportType)


class _ExperimentalConfig:
    def __init__(
        self,
        profiler_level: int = ProfilerLevel.Level0,
        aic_metrics: int = AiCMetrics.PipeUtilization,
        l2_cache: bool = False,
        msprof_tx: bool = False,
        mstx: bool = False,
        data_simplification: bool = True,
        record_op_args: bool = False,
        op_attr: bool = False,
        gc_detect_threshold: float | None = None,
        export_type: str | list = ExportType.Text,
        host_sys: list | None = None,
        mstx_domain_include: list | None = None,
        mstx_domain_exclude: list | None = None,
        sys_io: bool = False,
        sys_interconnection: bool = False,
    ):
        given = {name: value for name, value in locals().items() if name != "self"}
        if profiler_level not in supported_profiler_level():
            given["profiler_level"] = ProfilerLevel.Level0
        if given["profiler_level"] in (ProfilerLevel.Level0, ProfilerLevel.Level_none):
            given["aic_metrics"] = AiCMetrics.AiCoreNone  # these levels collect none
        self.given = given


class schedule:
    """Which steps are recorded. ``active`` comes second, unlike torch's own."""

    def __init__(
        self, wait: int, active: int, warmup: int = 0, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
    ) -> None:
        self.wait = wait
        self.active = active
        self.warmup = warmup
        self.repeat = repeat
        self.skip_first = skip_first
        self.skip_first_wait = skip_first_wait

    def __call__(self, step: int) -> ProfilerAction:
        if step < 0:
            raise ValueError("Invalid parameter step, which must be not less than 0.")
        if step < self.skip_first:
            return ProfilerAction.NONE
        step += (self.wait if self.skip_first_wait else 0) - self.skip_first
        cycle, position = divmod(step, self.wait + self.warmup + self.active)
        if (self.repeat and cycle >= self.repeat) or position < self.wait:
            return ProfilerAction.NONE
        if position < self.wait + self.warmup:
            return ProfilerAction.WARMUP
        last = position == self.wait + self.warmup + self.active - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD


def tensorboard_trace_handler(
    dir_name: str | None = None,
    worker_name: str | None = None,
    analyse_flag: bool = True,
    async_mode: bool = False,
):
    work = os.environ.get("ASCEND_WORK_PATH")
    folder = Path(dir_name or (Path(work) / "profiling_data" if work else Path.cwd()))

    def handler(prof_inst) -> None:
        now = datetime.now(tz=UTC).astimezone().strftime("%Y%m%d%H%M%S%f")[:-3]
        span = folder / f"{worker_name or socket.gethostname()}_{os.getpid()}_{now}_ascend_pt"
        output = span / "ASCEND_PROFILER_OUTPUT" if analyse_flag else span
        output.mkdir(parents=True, exist_ok=True)
        prof_inst.export_chrome_trace(str(output / "trace_view.json"))

    return handler


class profile:
    """Records operators between `start` and `stop`, in the steps that ``schedule`` names."""

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: _ExperimentalConfig | None = None,
        execution_trace_observer: Any | None = None,
        custom_trace_id_callback: Callable[[], str] | None = None,
        use_cuda: bool | None = None,
    ):
        _lazy_init()
        _host.settings["profiler"] = {
            "activities": sorted(activity.name for activity in activities or ProfilerActivity),
            "record_shapes": record_shapes,
            "profile_memory": profile_memory,
            "with_stack": with_stack,
            "with_flops": with_flops,
            "with_modules": with_modules,
            **(experimental_config or _ExperimentalConfig()).given,
        }

        def action(step: int) -> torch.profiler.ProfilerAction:
            return torch.profiler.ProfilerAction[schedule(step).name]

        self._inner = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU],
            schedule=action if schedule else None,
            on_trace_ready=(lambda _: on_trace_ready(self)) if on_trace_ready else None,
            record_shapes=record_shapes,
            profile_memory=profile_memory,
            with_stack=with_stack,
            with_flops=with_flops,
            with_modules=with_modules,
        )

    def start(self):
        self._inner.start()

    def stop(self):
        self._inner.stop()

    def step(self):
        self._inner.step()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, exe_type, exe_val, exc_tb):
        self.stop()

    def export_chrome_trace(self, output_path: str):
        self._inner.export_chrome_trace(output_path)

    def add_metadata(self, key: str, value: str):
        self._inner.add_metadata(key, value)

    def add_metadata_json(self, key: str, value: str):
        self._inner.add_metadata_json(key, value)
