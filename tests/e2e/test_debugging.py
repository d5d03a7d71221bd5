"""Whole commands with debug options: what they leave in the run, and that the run is the same with and without them."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
import torch
from whole_commands import SMALL, Recexp

FEW = [*SMALL, "trainer.max_steps=30", "trainer.log_every_n_steps=5", "tracking.backend=off"]
SHORT_PROFILE = ["debug.profiler=true", "debug.profiler.wait=1", "debug.profiler.warmup=1", "debug.profiler.active=2"]


def journal(run: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["e"] == kind]


def overflows(recexp: Recexp, run: Path) -> dict[int, object]:
    return {step: value for name, step, value in recexp.points(run) if name == "train/overflows"}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_a_profile_and_a_dump_are_kept_and_change_nothing(recexp: Recexp) -> None:
    recexp.run(*FEW)
    recexp.run(*FEW, *SHORT_PROFILE, "debug.dump=[2,9]", "debug.dump.backend=own", "trainer.updates_per_block=7")
    plain, looked = recexp.runs()
    # None of these options is of the run's identity.
    assert plain.parent == looked.parent
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(looked)[name]), name
    assert recexp.points(plain) == recexp.points(looked)
    with gzip.open(looked / "profile" / "updates-3-4.rank0.trace.json.gz", "rt") as stream:
        events = json.load(stream)["traceEvents"]
    assert {e["name"] for e in events if str(e.get("name", "")).startswith("update ")} == {"update 3", "update 4"}
    assert "aten::" in (looked / "profile" / "updates-3-4.rank0.txt").read_text()
    for step in (2, 9):
        with (looked / "dump" / f"step{step}" / "rank0" / "statistics.csv").open() as stream:
            rows = {(row["name"], row["kind"]) for row in csv.DictReader(stream)}
        assert {("network.item_long", "parameter"), ("network.item_long", "gradient")} < rows
        assert {("batch0.history", "input"), ("loss", "output")} < rows
    folders = {event["path"]: event["folder"] for event in journal(looked, "artifact")}
    assert folders["profile"] == "profile"
    assert folders["dump"] == "dump"
    assert not {"profile", "dump"} & {event["path"] for event in journal(plain, "artifact")}
    assert not overflows(recexp, plain)


def test_an_overflow_in_float16_is_skipped_and_counted_and_training_goes_on(recexp: Recexp) -> None:
    words = [*FEW, "precision=mixed", "precision.init_scale=1e12", "debug.overflow=warn"]
    done = recexp.run(*words)
    (run,) = recexp.runs()
    counted = overflows(recexp, run)
    assert list(counted) == [5, 10, 15, 20, 25, 30]
    assert counted[5] == 5
    assert counted[30] == counted[25] < 25
    assert "gradients that are not finite since the last report, the first one 1, left out" in done.stderr
    assert all(value.isfinite().all() for value in weights(run).values())


def test_stop_ends_the_run_with_a_way_on_which_works(recexp: Recexp) -> None:
    words = [*FEW, "precision=mixed", "precision.init_scale=1e12", "debug.overflow=stop", "debug.dump.backend=own"]
    done = recexp.run(*words, "debug.dump=[1]", code=1)
    assert "the gradients of update 1 are not finite in network." in done.stderr
    assert "resume=true debug.dump=[1]" in done.stderr
    assert "Traceback" not in done.stderr
    (run,) = recexp.runs()
    assert json.loads((run / "run.json").read_text())["status"] == "FAILED"
    assert "network.item_short,gradient" in (run / "dump" / "step1" / "rank0" / "statistics.csv").read_text()
    assert "dump" in {event["path"] for event in journal(run, "artifact")}


def test_a_dump_that_needs_what_is_not_there_says_so(recexp: Recexp) -> None:
    from recexp.training import msprobe

    if msprobe.missing() is None:
        pytest.skip("msprobe is installed")
    done = recexp.run(*FEW, "debug.dump=[2]", "debug.dump.level=L1", code=2)
    assert "pip install mindstudio-probe" in done.stderr


@pytest.mark.slow
def test_two_processes_agree_on_what_overflowed(recexp: Recexp) -> None:
    words = [*FEW, "precision=mixed", "precision.init_scale=1e10", "device.count=2", *SHORT_PROFILE, "debug.dump=[2]"]
    recexp.run(*words, "debug.dump.backend=own", "debug.overflow=warn")
    (run,) = recexp.runs()
    counted = overflows(recexp, run)
    assert 0 < counted[30] < 30
    assert sorted(path.name for path in (run / "dump" / "step2").iterdir()) == ["rank0", "rank1"]
    traces = {path.name for path in (run / "profile").glob("*.gz")}
    assert traces == {f"updates-3-4.rank{rank}.trace.json.gz" for rank in (0, 1)}


@pytest.mark.slow
def test_two_processes_stop_together(recexp: Recexp) -> None:
    words = [*FEW, "precision=mixed", "precision.init_scale=1e12", "device.count=2", "debug.overflow=stop"]
    done = recexp.run(*words, code=1)
    assert "the gradients of update 1 are not finite" in done.stderr
