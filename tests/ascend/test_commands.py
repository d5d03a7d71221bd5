"""Whole commands on the device made of host memory: several processes, kills, moves to the CPU, the rank table."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from host_npu import environment
from whole_commands import SMALL, Recexp

NPU = [word for word in SMALL if not word.startswith("device")] + ["device=npu", "tracking=off"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def recexp(tmp_path: Path, cache: Path) -> Recexp:
    made = Recexp(tmp_path, cache)
    made.environment = {**environment(), **made.environment, "PYTHONPATH": environment()["PYTHONPATH"]}
    return made


def result(run: Path) -> dict[str, float]:
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    return {row["name"]: row["value"] for row in rows}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def losses(recexp: Recexp, run: Path) -> dict[int, float]:
    return {step: value for name, step, value in recexp.points(run) if name == "train/loss"}


def test_two_processes_train_like_one(recexp: Recexp) -> None:
    words = [*NPU, "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "trainer.max_steps=30"]
    words += ["problem.protocols=[p1,p2,p3,p4]"]
    recexp.run(*words)
    recexp.run(*words, "device.count=2")
    one, two = recexp.runs()
    points, others = losses(recexp, one), losses(recexp, two)
    assert list(points) == list(others) == list(range(1, 31))
    for step, value in points.items():
        assert others[step] == pytest.approx(value, rel=1e-6), step
    assert result(one).keys() == result(two).keys()
    assert [name for name in result(one) if "auc" in name], "ranks of all users, not a mean of two processes' areas"
    for name, value in result(one).items():
        assert result(two)[name] == pytest.approx(value, abs=1e-6), name
    facts = json.loads((two / "config.json").read_text())["device"]
    assert facts["count"] == 2


CLICKS = [
    "model=gru4rec", "dataset=rsc15_synthetic", "dataset.sessions=600", "dataset.items=60", "model.layers=[16]",
    "model.samples=32", "model.dropout_embed=0.2", "dataset.batch_size=33", "trainer.max_epochs=20",
    "trainer.updates_per_block=4", "trainer.log_every_n_steps=1", "trainer.progress=lines", "tracking=off",
    # A tenth of the usual rate: the first updates of Adagrad multiply the rounding of small gradients by it.
    "optim.lr=0.02", "device=npu",
]  # fmt: skip


def numbers(run: Path) -> dict[str, torch.Tensor]:
    """Weights, the optimiser's sums and velocities, and the state that all slots carry, if there are slots."""
    kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    found = dict(kept["state_dict"])
    for number, state in kept["optimizer_states"][0]["state"].items():
        found |= {f"{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return found | {f"carried.{layer}": state for layer, state in enumerate(kept.get("carried", []))}


def assert_close(one: Path, other: Path) -> None:
    found, expected = numbers(one), numbers(other)
    assert found.keys() == expected.keys()
    assert expected["carried.0"].shape == (33, 16)
    assert expected["carried.0"].abs().sum(1).min() > 0, "each slot has a state of its own"
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_two_processes_share_the_slots_of_one(recexp: Recexp) -> None:
    recexp.run(*CLICKS, "trainer.max_steps=14")
    recexp.run(*CLICKS, "trainer.max_steps=14", "device.count=2")
    one, two = recexp.runs()
    points, others = losses(recexp, one), losses(recexp, two)
    assert list(points) == list(others) == list(range(1, 15))
    assert others == pytest.approx(points, rel=1e-6)
    assert result(two) == pytest.approx(result(one), abs=1e-6)
    assert_close(two, one)


@pytest.mark.slow
def test_two_processes_go_on_in_the_middle_of_sessions(recexp: Recexp) -> None:
    words = [*CLICKS, "trainer.max_steps=120", "trainer.checkpoint_every_n_steps=4"]
    words.append("device.count=2")
    run = kill_after_an_epoch(recexp, *words)
    kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < kept["global_step"] < 120
    assert kept["carried"][0].abs().sum(1).min() > 0
    recexp.run(*words, f"resume={run}")
    recexp.run(*words)
    whole = next(found for found in recexp.runs() if found != run)
    found, expected = numbers(run), numbers(whole)
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert losses(recexp, run) == losses(recexp, whole)


IMPRESSIONS = [
    "dataset=criteo_synthetic", "dataset.impressions=3000", "dataset.max_cardinality=50", "dataset.batch_size=100",
    "trainer.max_epochs=20", "trainer.updates_per_block=4", "trainer.log_every_n_steps=1", "trainer.progress=lines",
    "tracking=off", "device=npu",
]  # fmt: skip
DLRM = ["model=dlrm", "model.arch_sparse_feature_size=8", "model.arch_mlp_bot=[16,8]", "model.arch_mlp_top=[16,1]"]
DEEPFM = ["model=deepfm", "model.dim=8", "model.hidden=[24,16]"]
#: Adam divides small gradients by their own size, and with them what rounding makes of them.
LAZY = ["model.l2_scope=batch", "optim.name=lazy_adam", "optim.rows=touched", "optim.eps=1e-4"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [DLRM, [*DEEPFM, "optim.eps=1e-4"], [*DEEPFM, *LAZY]], ids=["dlrm", "adam", "lazy"])
def test_two_processes_share_the_impressions_of_one(recexp: Recexp, model: list[str]) -> None:
    words = [*model, *IMPRESSIONS, "trainer.max_steps=14"]
    recexp.run(*words)
    recexp.run(*words, "device.count=2")
    one, two = recexp.runs()
    points, others = losses(recexp, one), losses(recexp, two)
    assert list(points) == list(others) == list(range(1, 15))
    assert others == pytest.approx(points, rel=1e-6)
    assert result(two) == pytest.approx(result(one), abs=1e-5)
    found, expected = numbers(two), numbers(one)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_two_processes_go_on_in_the_middle_of_impressions(recexp: Recexp) -> None:
    words = [*DEEPFM, *LAZY, *IMPRESSIONS, "trainer.max_steps=120", "trainer.checkpoint_every_n_steps=4"]
    words.append("device.count=2")
    run = kill_after_an_epoch(recexp, *words)
    kept = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < kept["global_step"] < 120
    recexp.run(*words, f"resume={run}")
    recexp.run(*words)
    whole = next(found for found in recexp.runs() if found != run)
    found, expected = numbers(run), numbers(whole)
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert losses(recexp, run) == losses(recexp, whole)


PAIRS = [
    "model=ngnn", "dataset=polyvore_synthetic", "dataset.outfits=100", "dataset.categories=10",
    "dataset.items_per_category=12", "dataset.styles=3", "dataset.image_width=6", "dataset.num_words=30",
    "dataset.batch_size=47", "dataset.eval_batch_size=7", "trainer.max_epochs=20", "trainer.updates_per_block=4",
    "trainer.log_every_n_steps=1", "trainer.progress=lines", "tracking=off", "device=npu",
    # The first updates divide small gradients by little more than their own size, and with them their rounding.
    "optim.eps=1e-4",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [[], ["optim.rows=all", "model.consistency=reference_bug"], ["trainer.gradient_clip_val=0.1"]], ids=len
)
def test_two_processes_share_the_pairs_of_one(recexp: Recexp, words: list[str]) -> None:
    """In update 18, the last one of the first epoch, the second process has no row."""
    recexp.run(*PAIRS, *words, "trainer.max_steps=20")
    recexp.run(*PAIRS, *words, "trainer.max_steps=20", "device.count=2")
    one, two = recexp.runs()
    points, others = losses(recexp, one), losses(recexp, two)
    assert list(points) == list(others) == list(range(1, 21))
    assert others == pytest.approx(points, rel=1e-6)
    assert result(two) == pytest.approx(result(one), abs=1e-6)
    found, expected = numbers(two), numbers(one)
    assert found.keys() == expected.keys()
    assert any(value.dtype == torch.int32 for value in expected.values()) != ("optim.rows=all" in words)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_float32_on_real_data_is_equal_to_the_last_bit(recexp: Recexp, real_data: Path) -> None:
    recexp.environment["RECEXP_DATA"] = str(real_data)
    words = ["model=attrec", "dataset=ml1m", "precision=fp32", "trainer.max_steps=300", "tracking=off"]
    recexp.run(*words, "device=npu")
    recexp.run(*words, "device=cpu", "trainer.kernels=plain")
    one, other = recexp.runs()
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())
    assert result(one) == result(other)
    assert losses(recexp, one) == losses(recexp, other)


def test_a_run_is_evaluated_on_the_npu_and_on_the_cpu(recexp: Recexp) -> None:
    recexp.run(*NPU, "trainer.max_epochs=1", "debug.dump=[1]")
    (run,) = recexp.runs()
    for device in ("npu", "cpu"):
        done = recexp.run("task=evaluate", f"ckpt={run}", f"device={device}", "tracking=off", "trainer.progress=off")
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith("test/")]
        assert {row[0]: row[1] for row in rows} == {name: f"{value:.4f}" for name, value in result(run).items()}


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_two_npus(recexp: Recexp) -> None:
    words = [*NPU, "trainer.max_epochs=1", "trainer.max_steps=10", "device.count=2"]
    recexp.run(*words)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recexp"]
    done = subprocess.run(
        [*command, *words], cwd=recexp.folder, env=recexp.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = recexp.runs()
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())


def kill_after_an_epoch(recexp: Recexp, *words: str) -> Path:
    process = recexp.start(*words)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if [run for run in recexp.runs() if (run / "checkpoints" / "last.ckpt").exists()]:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (run,) = recexp.runs()
    assert json.loads((run / "run.json").read_text())["status"] == "RUNNING"
    return run


def test_a_killed_run_of_the_npu_goes_on_on_the_cpu(recexp: Recexp) -> None:
    words = [word for word in NPU if not word.startswith(("tracking", "trainer.max_epochs"))]
    words += ["trainer.max_epochs=40", "model.dropout=0.2"]
    run = kill_after_an_epoch(recexp, *words)
    cpu = [*(word for word in words if word != "device=npu"), "device=cpu", "device.threads=1"]
    refused = recexp.run(*cpu, f"resume={run}", code=2).stderr
    assert "device.name was 'npu' in that run and is 'cpu' now, resume_elsewhere=true allows it and marks" in refused
    before = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    done = recexp.run(*cpu, "resume=true", "resume_elsewhere=true", "trainer.max_steps=700")
    assert recexp.runs() == [run]
    state = json.loads((run / "run.json").read_text())
    (leg,) = state["lineage"]
    assert leg["on"] == "npu fp32"
    assert 0 < leg["until"] == before["global_step"] < 700
    assert state["status"] == "FINISHED"
    assert state["identity"] not in (leg["identity"], state["configured"])
    way = f"npu fp32 until update {leg['until']}, then cpu fp32"
    assert f"This run was moved: {way}." in done.stdout
    assert tags(recexp.folder / "mlflow.db")["recexp.lineage"] == way
    again = recexp.run(*cpu, "resume=true", "resume_elsewhere=true", "trainer.max_steps=700")
    assert "this run is finished" in again.stderr
    # A run that was only ever on the CPU is another run.
    other = recexp.run(*cpu, "resume=true", "trainer.max_steps=1").stderr
    assert "there is no run of this configuration yet" in other


@pytest.mark.slow
def test_auto_does_not_move_a_run_from_the_npu_to_the_cpu_in_silence(recexp: Recexp) -> None:
    words = [word for word in NPU if not word.startswith(("device", "trainer.max_epochs"))]
    words += ["device=auto", "trainer.max_epochs=40"]
    run = kill_after_an_epoch(recexp, *words)
    assert json.loads((run / "run.json").read_text())["kind"] == "npu"
    recexp.environment["NPU_HOST_DEVICES"] = "0"
    refused = recexp.run(*words, "resume=true", code=2).stderr
    assert "device was 'npu' in that run and is 'cpu' now, resume_elsewhere=true allows it" in refused
    recexp.run(*words, "resume=true", "resume_elsewhere=true", "trainer.max_steps=700")
    (leg,) = json.loads((run / "run.json").read_text())["lineage"]
    assert leg["on"] == "npu fp32"


def test_a_living_run_is_not_moved(recexp: Recexp) -> None:
    words = [word for word in NPU if not word.startswith("trainer.max_epochs")] + ["trainer.max_epochs=400"]
    process = recexp.start(*words)
    while not [run for run in recexp.runs() if (run / "checkpoints" / "last.ckpt").exists()]:
        assert process.poll() is None
        time.sleep(0.02)
    (run,) = recexp.runs()
    before = (run / "config.json").read_text()
    text = recexp.run(*words, "precision=bf16", f"resume={run}", "resume_elsewhere=true", code=1).stderr
    assert "is being written by process" in text
    assert (run / "config.json").read_text() == before
    assert "lineage" not in json.loads((run / "run.json").read_text())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    "acl", ["device.acl.ACL_AICORE_NUM=3", pytest.param("device.acl={ACL_AICORE_NUM: 3}", marks=pytest.mark.slow)]
)
def test_more_options_of_cann_in_both_forms(recexp: Recexp, acl: str) -> None:
    recexp.run(*NPU, "trainer.max_epochs=1", "trainer.max_steps=2", acl)
    (run,) = recexp.runs()
    assert json.loads((run / "config.json").read_text())["device"]["acl"] == {"ACL_AICORE_NUM": 3}


def tags(store: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(store)) as connection:
        return dict(connection.execute("SELECT key, value FROM tags").fetchall())


def test_an_overflow_is_skipped_and_counted_and_training_goes_on(recexp: Recexp) -> None:
    words = [*NPU, "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "precision=mixed"]
    recexp.run(*words, "precision.init_scale=1e9", "trainer.max_steps=40")
    (run,) = recexp.runs()
    counts = {step: value for name, step, value in recexp.points(run) if name == "train/overflows"}
    assert counts[1] == 1
    assert 1 < counts[40] < 40, "the scale came down, and updates were made"
    assert list(counts.values()) == sorted(counts.values())
    values = losses(recexp, run)
    assert values[40] < values[1]


def test_a_profile_of_the_npu(recexp: Recexp) -> None:
    recexp.run(*NPU, "trainer.max_epochs=1", "trainer.max_steps=14", "debug.profiler=true", "debug.profiler.level=1")
    (run,) = recexp.runs()
    assert [path for path in (run / "profile").rglob("*") if path.is_file()]
    kept = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert [event for event in kept if event["e"] == "artifact" and event["path"] == "profile"]


def test_a_rank_table_is_written_joined_and_used(recexp: Recexp) -> None:
    for server, name in (("10.0.0.1", "a.json"), ("10.0.0.2", "b.json")):
        addresses = "[192.168.1.1,192.168.1.2]"
        words = [f"task.path={name}", f"task.server={server}", f"task.chip_addresses={addresses}"]
        recexp.run("task=rank_table", "device=npu", *words)
    recexp.run("task=rank_table", "task.join=[a.json,b.json]", "task.path=both.json")
    table = json.loads((recexp.folder / "both.json").read_text())
    assert (table["version"], table["status"], table["server_count"]) == ("1.0", "completed", "2")
    ranks = [(s["server_id"], d["device_id"], d["rank_id"]) for s in table["server_list"] for d in s["device"]]
    assert ranks == [("10.0.0.1", "0", "0"), ("10.0.0.1", "1", "1"), ("10.0.0.2", "0", "2"), ("10.0.0.2", "1", "3")]
    small = ["trainer.max_epochs=1", "trainer.max_steps=3", "device.count=2"]
    text = recexp.run(*NPU, *small, "device.rank_table=both.json", code=2).stderr
    assert "both.json lists 4 ranks, but 2 processes take part" in text
    recexp.run(*NPU, *small, "device.rank_table=a.json")
    recexp.run("task=rank_table", "device=npu", "device.index=6", *words[1:], "task.path=far.json")
    text = recexp.run(*NPU, *small, "device.rank_table=far.json", code=2).stderr
    assert "far.json is for the NPUs [6, 7], but [0, 1] were asked for" in text
    (recexp.folder / "bad.json").write_text('{"server_list": [{"server_id": "x", "device": [{"device_id": "0"}]}]}')
    assert "is no HCCL rank table: KeyError" in recexp.run(*NPU, "device.rank_table=bad.json", code=2).stderr


def test_a_rank_table_needs_the_addresses_of_the_chips(recexp: Recexp) -> None:
    if Path("/etc/hccn.conf").exists():
        pytest.skip("this machine has chips")
    text = recexp.run("task=rank_table", "device=npu", code=2).stderr
    assert "/etc/hccn.conf, which cannot be read" in text
    assert "task.chip_addresses=[...]" in text


def test_memory_that_runs_out_is_explained(recexp: Recexp) -> None:
    recexp.environment["NPU_HOST_MEMORY_MB"] = "3"
    text = recexp.run(*NPU, "model.dim=64", code=1).stderr
    assert "npu:0 is out of memory" in text
    assert "Make dataset.batch_size smaller" in text
    assert "Traceback" not in text
