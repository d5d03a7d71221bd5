"""Runs that are killed, stopped, and started again: nothing lost, nothing twice, the same bits at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from finished_runs import same_state
from whole_commands import SMALL, Recexp

#: Enough blocks that a kill finds the run at work.
LONGER = [*SMALL, "trainer.max_epochs=5", "trainer.checkpoint_every_n_steps=40", "trainer.log_every_n_steps=10"]
LONGER.remove("trainer.max_epochs=3")
#: Steps through sessions: what is carried from step to step, samples and dropout go on too. Validated, so that there
#: are metrics, and a best state, in the middle.
SESSIONS = [
    "model=gru4rec", "dataset=rsc15_synthetic", "device=cpu", "device.threads=1", "trainer.progress=lines",
    "model.layers=[48]", "dataset.batch_size=16", "problem.validate=true", "trainer.max_epochs=12",
    "trainer.updates_per_block=16", "trainer.checkpoint_every_n_steps=150", "trainer.log_every_n_steps=10",
]  # fmt: skip
#: Impressions: sums and moments of single rows, and the order of rows go on, too.
CLICKS = [
    "dataset=criteo_synthetic", "dataset.impressions=40000", "dataset.max_cardinality=400", "device=cpu",
    "device.threads=1", "trainer.progress=lines", "dataset.batch_size=64", "trainer.max_epochs=5",
    "trainer.checkpoint_every_n_steps=150", "trainer.log_every_n_steps=10",
]  # fmt: skip
#: Pairs of outfits: mean squares of single rows, and when each was visited last, go on, too.
OUTFITS = [
    "model=ngnn", "dataset=polyvore_synthetic", "dataset.outfits=1500", "dataset.image_width=64",
    "dataset.num_words=200", "device=cpu", "device.threads=1", "trainer.progress=lines", "dataset.batch_size=32",
    "problem.validate=true", "trainer.max_epochs=8", "trainer.checkpoint_every_n_steps=150",
    "trainer.log_every_n_steps=10",
]  # fmt: skip
DROPPED = ["model.dropout_deep=0.2", "model.l2_linear=0", "model.l2_embedding=0"]
WINDOWS = ["model.training=bptt", "model.bptt_steps=4", "model.samples=256"]
KINDS = {
    "attrec": (LONGER, "test/ndcg_at_10"),
    "gru4rec": (SESSIONS, "test/recall_at_20"),
    "gru4rec, two layers, windows": (
        [*(word for word in SESSIONS if "layers" not in word), "model.layers=[24,16]", *WINDOWS], "test/recall_at_20",
    ),
    "dlrm": ([*CLICKS, "model=dlrm", "model.arch_mlp_bot=[32,16]", "model.arch_mlp_top=[32,1]"], "test/auc"),
    "deepfm": (
        [*CLICKS, "model=deepfm", "model.dim=8", "model.hidden=[32,16]", *DROPPED, "optim.name=lazy_adam",
         "optim.rows=touched"], "test/auc",
    ),
    "fm": ([*CLICKS, "model=fm", "model.dim=8"], "test/auc"),
    "ngnn": (OUTFITS, "test/fitb_random_category"),
}  # fmt: skip


def final(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def status(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["status"])


def kill_all(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


Undisturbed = Callable[[str], tuple[Recexp, Path]]


@pytest.fixture(scope="module")
def undisturbed_run(tmp_path_factory: pytest.TempPathFactory, recexp_in) -> Undisturbed:
    @cache
    def once(kind: str) -> tuple[Recexp, Path]:
        recexp = recexp_in(tmp_path_factory.mktemp("undisturbed"))
        recexp.run(*KINDS[kind][0], "tracking.backend=off")
        return recexp, recexp.runs()[0]

    return once


@pytest.fixture
def undisturbed(undisturbed_run: Undisturbed) -> tuple[Recexp, Path]:
    return undisturbed_run("attrec")


@pytest.mark.parametrize(("kind", "kills"), [
    ("attrec", 2),
    pytest.param("attrec", 10, marks=pytest.mark.slow),
    pytest.param("gru4rec", 8, marks=pytest.mark.slow),
    pytest.param("gru4rec, two layers, windows", 5, marks=pytest.mark.slow),
    pytest.param("dlrm", 8, marks=pytest.mark.slow),
    pytest.param("deepfm", 5, marks=pytest.mark.slow),
    pytest.param("fm", 5, marks=pytest.mark.slow),
    pytest.param("ngnn", 8, marks=pytest.mark.slow),
])  # fmt: skip
def test_killed_at_random_moments_it_ends_with_the_same_bits(
    recexp: Recexp, undisturbed_run: Undisturbed, kind: str, kills: int
) -> None:
    whole, reference = undisturbed_run(kind)
    own, headline = KINDS[kind]
    draw, words = random.Random(kills), [*own, "tracking.backend=off", "resume=true"]
    done = 0
    while done < kills:
        process = recexp.start(*words)
        began = time.monotonic()
        # Kill inside of the training, which begins when the run is there.
        while not (runs := recexp.runs()) or status(runs[0]) != "RUNNING" or not _at_work(runs[0], began):
            if process.poll() is not None:
                break
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 2.5))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()
            break
        kill_all(process)
        done += 1
    recexp.run(*words)
    (run,) = recexp.runs()
    assert status(run) == "FINISHED"
    for name, value in final(reference).items():
        assert torch.equal(value, final(run)[name]), name
    assert same_state(reference, run)
    points = recexp.points(run)
    assert not [key for key, count in Counter((name, step) for name, step, _ in points).items() if count > 1]
    assert sorted(points) == sorted(whole.points(reference))
    # Once more: it is finished, and shows its result again.
    again = recexp.run(*words)
    assert "finished" in again.stderr
    assert headline in again.stdout
    assert recexp.runs() == [run]


def _at_work(run: Path, since: float) -> bool:
    """Whether this start has come as far as to training."""
    return time.monotonic() - since > 4 or (run / "checkpoints").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_the_run_as_killed(recexp: Recexp, number: int, code: int) -> None:
    process = recexp.start(*LONGER, "trainer.max_epochs=2000", "tracking.backend=off")
    while not list(recexp.folder.glob("runs/*/*/checkpoints/last.ckpt")):
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    asked = time.monotonic()
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30
    assert process.returncode == code
    assert "resume=true" in error
    (run,) = recexp.runs()
    assert status(run) == "KILLED"
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] > 0


def test_a_damaged_checkpoint_costs_one_save_not_the_run(recexp: Recexp, undisturbed: tuple[Recexp, Path]) -> None:
    process = recexp.start(*LONGER, "tracking.backend=off", "resume=true")
    while not any(not p.samefile(p.with_name("last.ckpt")) for p in recexp.folder.glob("runs/*/*/*/previous.ckpt")):
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()
    kill_all(process)
    (run,) = recexp.runs()
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    done = recexp.run(*LONGER, "tracking.backend=off", "resume=true")
    assert "previous.ckpt" in done.stderr
    for name, value in final(undisturbed[1]).items():
        assert torch.equal(value, final(run)[name]), name


def test_a_living_run_is_not_resumed_by_a_second_process(recexp: Recexp) -> None:
    words = [*LONGER, "trainer.max_epochs=2000", "tracking.backend=off"]
    process = recexp.start(*words)
    while not list(recexp.folder.glob("runs/*/*/checkpoints/last.ckpt")):
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    refused = recexp.run(*words, "resume=true", code=1)
    assert f"process {process.pid}" in refused.stderr
    kill_all(process)


def test_resuming_under_another_configuration_is_refused(recexp: Recexp) -> None:
    recexp.run(*SMALL, "trainer.max_epochs=1", "tracking.backend=off")
    (run,) = recexp.runs()
    words = [*SMALL, "tracking.backend=off", f"resume={run}"]
    refused = recexp.run(*words, "optim.lr=0.5", "model.mode=dist", code=2)
    assert "optim.lr was 0.001" in refused.stderr
    assert "model.mode was 'inner'" in refused.stderr
    # A longer training is the same run, continued.
    recexp.run(*words, "trainer.max_epochs=2")
    assert recexp.runs() == [run]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attrec", "gru4rec"])
def test_killed_runs_stand_in_mlflow_once(recexp: Recexp, undisturbed_run: Undisturbed, kind: str) -> None:
    draw, words = random.Random(7), [*KINDS[kind][0], "resume=true", "tracking.drain_timeout=120"]
    for _ in range(4):
        process = recexp.start(*words)
        time.sleep(draw.uniform(8, 16))
        if process.poll() is None:
            kill_all(process)
    recexp.run(*words)
    with sqlite3.connect(recexp.folder / "mlflow.db") as connection:
        runs = connection.execute("SELECT run_uuid, status FROM runs").fetchall()
        points = connection.execute("SELECT key, step, value FROM metrics").fetchall()
    assert [state for _, state in runs] == ["FINISHED"]
    kept = [(k, s, v) for k, s, v in points if not k.startswith(("perf/", "sys/"))]
    assert not [key for key, count in Counter((k, s) for k, s, _ in points).items() if count > 1]
    whole, reference = undisturbed_run(kind)
    assert sorted(kept) == sorted(whole.points(reference))


@pytest.mark.slow
def test_eight_processes_start_at_once_on_nothing(tmp_path: Path, recexp_in) -> None:
    recexp = recexp_in(tmp_path)
    recexp.environment["RECEXP_CACHE"] = str(tmp_path / "cache")
    words = [*SMALL, "trainer.max_epochs=1", "tracking.drain_timeout=200"]
    processes = [recexp.start(*words, f"seed={seed}") for seed in range(8)]
    outputs = [process.communicate(timeout=280) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert sum("built " in error for _, error in outputs) == 1
    assert len(recexp.runs()) == 8
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        runs = connection.execute("SELECT status FROM runs").fetchall()
    assert runs == [("FINISHED",)] * 8
