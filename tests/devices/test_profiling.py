"""Profiles: exactly the updates that were asked for, none lost, none overwritten, and no bit changed."""

from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_training import same, train

from recexp.devices import profiling
from recexp.devices.ascend import profiling as ascend
from recexp.devices.profiling import ProfilerOptions
from recexp.training.overflow import Overflow
from recexp.training.profiling import Profiling


def watcher(folder: Path, **options: Any) -> Profiling:
    def make(first: int, rank: int) -> profiling.Profile:
        made = ProfilerOptions(**options, first_update=first, rank=rank)
        return profiling.make(made, folder, kind="cpu")

    return Profiling(make, ProfilerOptions(**options).length)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def events(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as stream:
        return json.load(stream)["traceEvents"]


def updates(path: Path) -> list[int]:
    found = {event["name"] for event in events(path) if str(event.get("name", "")).startswith("update ")}
    return sorted(int(name.split()[1]) for name in found)


SHORT = {"skip_first": 1, "wait": 1, "warmup": 1, "active": 2, "repeat": 2}


def test_each_cycle_keeps_its_updates() -> None:
    options = ProfilerOptions(**SHORT, first_update=101)
    assert [list(options.kept(cycle)) for cycle in range(2)] == [[104, 105], [108, 109]]
    assert options.length == 9


@pytest.mark.parametrize("block", [1, 5])
def test_a_trace_covers_exactly_the_active_updates(tmp_path: Path, block: int) -> None:
    folder = tmp_path / "profile"
    done = train(tmp_path, [watcher(folder, **SHORT)], block=block)
    assert done.error is None
    stems = ["updates-4-5.rank0", "updates-8-9.rank0"]
    assert names(folder) == sorted(f"{stem}.{end}" for stem in stems for end in ("trace.json.gz", "txt"))
    assert updates(folder / "updates-4-5.rank0.trace.json.gz") == [4, 5]
    assert updates(folder / "updates-8-9.rank0.trace.json.gz") == [8, 9]
    operators = [e for e in events(folder / "updates-4-5.rank0.trace.json.gz") if e.get("name") == "aten::addmm"]
    assert len(operators) == 2 * 2  # two layers, two updates
    table = (folder / "updates-4-5.rank0.txt").read_text()
    assert "aten::addmm" in table
    assert table.startswith("Updates 4 to 5")


def test_a_profile_changes_no_bit(tmp_path: Path) -> None:
    plain = train(tmp_path / "a")
    options = {**SHORT, "shapes": True, "memory": True, "stack": True, "flops": True}
    assert same(plain, train(tmp_path / "b", [watcher(tmp_path / "profile", **options)]))
    trace = events(tmp_path / "profile" / "updates-4-5.rank0.trace.json.gz")
    assert any("Input Dims" in event.get("args", {}) for event in trace)


def test_a_training_that_ends_early_keeps_what_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    train(tmp_path / "a", [watcher(folder, wait=10, warmup=0, active=5)])
    assert names(folder) == ["updates-11-12.rank0.trace.json.gz", "updates-11-12.rank0.txt"]
    assert updates(folder / names(folder)[0]) == [11, 12]
    train(tmp_path / "b", [watcher(tmp_path / "none", wait=12, warmup=3, active=5)])
    assert names(tmp_path / "none") == []


def test_a_training_that_fails_keeps_what_it_has(tmp_path: Path) -> None:
    watchers = [watcher(tmp_path / "profile", wait=0, warmup=1, active=9), Overflow("stop", log_every_n_steps=3)]
    done = train(tmp_path, watchers, spoiled={4: math.inf})
    assert "update 4" in str(done.error)
    assert names(tmp_path / "profile") == ["updates-2-3.rank0.trace.json.gz", "updates-2-3.rank0.txt"]


def test_a_resumed_run_overwrites_nothing(tmp_path: Path) -> None:
    folder, options = tmp_path / "profile", {"wait": 0, "warmup": 1, "active": 2}
    train(tmp_path, [watcher(folder, **options)], stop_after=4)
    first = names(folder)
    train(tmp_path, [watcher(folder, **options)], resume=True)
    assert names(folder) == [*first, *(name.replace("2-3", "6-7") for name in first)]
    # The same updates once more, as after a kill.
    kept = (folder / first[0]).read_bytes()
    train(tmp_path / "again", [watcher(folder, **options)], stop_after=3)
    assert (folder / first[0]).read_bytes() == kept
    assert "updates-2-3.rank0.2.trace.json.gz" in names(folder)


class Recording:
    """Stands for ``torch_npu.profiler``, and keeps the arguments."""

    ProfilerActivity = SimpleNamespace(CPU="cpu", NPU="npu")
    ProfilerLevel = SimpleNamespace(Level_none=-1, Level0=0, Level1=1, Level2=2)
    AiCMetrics = SimpleNamespace(**{name: name for name in ascend.AIC_METRICS.values()})
    ExportType = SimpleNamespace(Text="text", Db="db")

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> str:
            self.calls[name] = arguments
            return name

        return call


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0, "AiCoreNone", False, False, "text")),
        ({"level": "none"}, (-1, "AiCoreNone", False, True, "text")),
        ({"level": "2"}, (2, "PipeUtilization", False, False, "text")),
        ({"aic_metrics": "memory_ub", "l2_cache": True}, (1, "MemoryUB", True, False, "text")),
        ({"aic_metrics": "none", "mstx": True, "export": "db"}, (0, "AiCoreNone", False, True, "db")),
    ],
)
def test_ascends_own_profiler_gets_every_option_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    recording = Recording()
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace(profiler=recording))
    ascend.make(ProfilerOptions(wait=4, warmup=3, active=2, repeat=1, skip_first=5, memory=True, **options), tmp_path)
    calls = recording.calls
    assert calls["schedule"] == {"wait": 4, "active": 2, "warmup": 3, "repeat": 1, "skip_first": 5}
    assert calls["tensorboard_trace_handler"] == {"dir_name": str(tmp_path), "worker_name": "from-update-1.rank0"}
    config = calls["_ExperimentalConfig"]
    assert tuple(config.values()) == expected
    assert list(config) == ["profiler_level", "aic_metrics", "l2_cache", "mstx", "export_type"]
    profile = calls["profile"]
    assert profile["activities"] == ["cpu", "npu"]
    assert (profile["schedule"], profile["on_trace_ready"]) == ("schedule", "tensorboard_trace_handler")
    assert (profile["profile_memory"], profile["record_shapes"]) == (True, False)
    assert profile["experimental_config"] == "_ExperimentalConfig"
