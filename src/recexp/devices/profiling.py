"""Profiles of some updates with torch.profiler: a trace for a viewer, and a table of the most expensive operators."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import profiler
from torch.profiler import ProfilerActivity

_ROWS = 60


@dataclass(frozen=True)
class ProfilerOptions:
    """Which updates are profiled, and what is looked at.

    Attributes:
        skip_first: Updates before anything begins.
        wait: Updates of a cycle that are left alone.
        warmup: Updates in which the profiler runs, but keeps nothing: its own start is slow.
        active: Updates that are kept.
        repeat: Cycles of wait, warmup and active.
        shapes: Keep the operators' input shapes.
        memory: Keep what is allocated and freed.
        stack: Keep the lines of source code.
        flops: Estimate floating-point operations.
        level: Ascend: how much of the device is collected, ``none``, ``0``, ``1`` or ``2``; None for its default.
        aic_metrics: Ascend: which counters of the AI cores; None for its default.
        l2_cache: Ascend: hits and misses of the L2 cache; None for its default.
        mstx: Ascend: ranges that the code marks; None for its default.
        export: Ascend: ``text`` or ``db``; None for its default.
        first_update: Number of the update with which the profile begins.
        rank: Of this process.
    """

    skip_first: int = 0
    wait: int = 5
    warmup: int = 2
    active: int = 3
    repeat: int = 1
    shapes: bool = False
    memory: bool = False
    stack: bool = False
    flops: bool = False
    level: str | None = None
    aic_metrics: str | None = None
    l2_cache: bool | None = None
    mstx: bool | None = None
    export: str | None = None
    first_update: int = 1
    rank: int = 0

    @property
    def length(self) -> int:
        """Updates from the first to the last one that is kept."""
        return self.skip_first + self.repeat * (self.wait + self.warmup + self.active)

    def kept(self, cycle: int) -> range:
        """The updates that a cycle, from 0, keeps."""
        before = self.skip_first + cycle * (self.wait + self.warmup + self.active) + self.wait + self.warmup
        return range(self.first_update + before, self.first_update + before + self.active)


class Profile(Protocol):
    """A profile of a training."""

    def start(self) -> None:
        """The first update begins."""

    def step(self) -> None:
        """An update is over."""

    def stop(self) -> None:
        """No update comes any more."""


class TorchProfile:
    """torch.profiler over the schedule of the options; each cycle becomes a trace and a table of its own."""

    def __init__(self, options: ProfilerOptions, folder: Path, *, kind: str) -> None:
        """Prepare.

        Args:
            options: When and what.
            folder: Takes ``updates-8-10.rank0.trace.json.gz`` and ``updates-8-10.rank0.txt``.
            kind: torch's name of the device, whose kernels are recorded where the profiler knows it.
        """
        self.options, self.folder, self._accelerator = options, folder, _activity(kind)
        self._done = self._cycles = 0
        self._profiler = profiler.profile(
            activities=[ProfilerActivity.CPU, *([self._accelerator] if self._accelerator else [])],
            schedule=profiler.schedule(
                skip_first=options.skip_first,
                wait=options.wait,
                warmup=options.warmup,
                active=options.active,
                repeat=options.repeat,
            ),
            on_trace_ready=self._write,
            record_shapes=options.shapes,
            profile_memory=options.memory,
            with_stack=options.stack,
            with_flops=options.flops,
        )

    def start(self) -> None:
        """Begin."""
        self._profiler.start()

    def step(self) -> None:
        """Count an update; at the end of a cycle, write."""
        self._done += 1
        self._profiler.step()

    def stop(self) -> None:
        """Write what a cycle that was cut short has kept."""
        self._profiler.stop()

    def _write(self, profile: Any) -> None:
        planned = self.options.kept(self._cycles)
        self._cycles += 1
        kept = range(planned.start, min(planned.stop, self.options.first_update + self._done))
        if not kept:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        trace, table = _free(self.folder, f"updates-{kept[0]}-{kept[-1]}.rank{self.options.rank}")
        profile.export_chrome_trace(str(trace))
        table.write_text(self._table(profile, kept), "utf-8")

    def _table(self, profile: Any, kept: range) -> str:
        on_device = self._accelerator is not None
        averages = profile.key_averages(group_by_input_shape=self.options.shapes)
        order = f"self_{'device' if on_device else 'cpu'}_time_total"
        rows = averages.table(sort_by=order, row_limit=_ROWS, max_name_column_width=60)
        return f"Updates {kept[0]} to {kept[-1]}, operators by their own time.\n{rows}\n"


def make(options: ProfilerOptions, folder: Path, *, kind: str) -> Profile:
    """A profile by torch.profiler, for every device that has no profiler of its own."""
    return TorchProfile(options, folder, kind=kind)


def _activity(kind: str) -> ProfilerActivity | None:
    """What the profiler calls a kind of device, None where it cannot record one here."""
    with contextlib.suppress(AttributeError):
        activity: ProfilerActivity = getattr(ProfilerActivity, kind.upper())
        if kind != "cpu" and activity in torch.profiler.supported_activities():
            return activity
    return None


def _free(folder: Path, name: str) -> tuple[Path, Path]:
    """Paths that do not exist yet: an update that is repeated after an interruption keeps both of its profiles."""
    number, stem = 1, name
    while (folder / f"{stem}.trace.json.gz").exists():
        number += 1
        stem = f"{name}.{number}"
    return folder / f"{stem}.trace.json.gz", folder / f"{stem}.txt"
