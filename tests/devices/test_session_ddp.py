"""Sessions in two processes: the slots are shared out, and everything comes out as in one process.

What is drawn (samples, dropout) is drawn for all slots and then shared out, so that the two trainings differ by the
order of float32 sums alone. One process would compute its gradients by hand; ``trainer.kernels=plain`` lets both take
torch's graph.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from whole_commands import Recexp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMON = [
    "dataset=rsc15_synthetic", "problem=session", "device=cpu", "device.threads=1", "tracking=off",
    "trainer.progress=off", "trainer.log_every_n_steps=1", "trainer.updates_per_block=5", "problem.validate=true",
]  # fmt: skip
#: Adagrad starts with a sum above 0: from 0 on it divides by the gradient's own size, which makes a rounding large.
GRU4REC = [
    *COMMON, "model=gru4rec", "trainer.kernels=plain", "model.layers=[12]", "model.samples=16", "dataset.batch_size=7",
    "trainer.max_steps=30", "optim.initial_accumulator=0.1",
]  # fmt: skip
VARIANTS = {
    "dropout and samples": [*GRU4REC, "model.dropout_embed=0.2"],
    "windows": [*GRU4REC, "model.training=bptt", "model.bptt_steps=3", "model.loss=bpr_max"],
    # Without samples the batch's other targets are the negatives: those of the other process, too.
    "onehot, without samples, accumulated": [
        *GRU4REC, "model.embedding=onehot", "model.samples=0", "model.reduction=mean",
        "trainer.accumulate_grad_batches=2", "optim.rows=all",
    ],
    # An epoch to its end: slots leave, and one process is without any at last.
    "to the end of the epoch": [
        *(word for word in GRU4REC if "max_steps" not in word), "trainer.max_epochs=1", "dataset.sessions=100",
        "dataset.min_item_support=1", "dataset.items=20",
    ],
    "attrec": [*COMMON, "model=attrec", "model.dim=8", "dataset.batch_size=33", "trainer.max_steps=20"],
}  # fmt: skip


@pytest.fixture
def recexp(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Recexp:
    return Recexp(tmp_path, tmp_path_factory.getbasetemp() / "shared-cache")


def losses(run: Path) -> list[tuple[int, float]]:
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    points = [event for event in events if event["e"] == "metrics" and "train/loss" in event["m"]]
    return [(point["step"], point["m"]["train/loss"]) for point in points]


def state(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def measured(run: Path) -> dict[str, float]:
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    return {row["name"]: row["value"] for row in rows}


def assert_close(one: Path, other: Path) -> None:
    """Losses, weights and what is carried to 1e-6, and the metrics of the test."""
    for (step, value), (number, expected) in zip(losses(one), losses(other), strict=True):
        assert step == number
        assert value == pytest.approx(expected, rel=1e-6)
    mine, theirs = state(one), state(other)
    for name, weight in theirs["state_dict"].items():
        torch.testing.assert_close(mine["state_dict"][name], weight, rtol=1e-6, atol=1e-6)
    for own, expected in zip(mine.get("carried", []), theirs.get("carried", []), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-6)
    assert measured(one) == pytest.approx(measured(other), rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_sessions_like_one(recexp: Recexp, variant: str) -> None:
    recexp.run(*VARIANTS[variant])
    recexp.run(*VARIANTS[variant], "device.count=2")
    one, two = recexp.runs()
    assert one.parent == two.parent, "the number of processes is not of the identity"
    assert len(losses(one)) >= 15
    assert_close(two, one)


def test_a_checkpoint_of_two_processes_is_gone_on_with_by_two_and_by_one(recexp: Recexp) -> None:
    """Stopped in the middle of an epoch; the slots' states are those of both processes."""
    words = [word for word in VARIANTS["dropout and samples"] if "max_steps" not in word]
    words += ["trainer.max_steps=600", "trainer.checkpoint_every_n_steps=5", "device.count=2"]
    recexp.run(*words)
    (whole,) = recexp.runs()
    process = recexp.start(*words)
    while len(saved := list(recexp.folder.glob("runs/*/*/checkpoints/last.ckpt"))) < 2:
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(120) == 143
    (half,) = {path.parents[1] for path in saved} - {whole}
    stopped = len(losses(half))
    assert 0 < stopped < 500
    copy = shutil.copytree(half, half.parent / "900")
    recexp.run(*words, f"resume={half}")
    assert same_bits(half, whole)
    assert losses(half) == losses(whole)
    recexp.run(*words[:-1], f"resume={copy}")
    for (step, value), (_, expected) in list(zip(losses(copy), losses(whole), strict=True))[: stopped + 20]:
        assert value == pytest.approx(expected, rel=1e-5), step


def test_two_processes_evaluate_like_one(recexp: Recexp) -> None:
    recexp.run(*VARIANTS["dropout and samples"])
    (run,) = recexp.runs()
    evaluate = ["task=evaluate", f"ckpt={run}", "device=cpu", "device.threads=1"]
    one, two = (recexp.run(*evaluate, *more).stdout for more in ([], ["device.count=2"]))
    shown = [[line for line in out.splitlines() if line.startswith("test/")] for out in (one, two)]
    assert len(shown[0]) == 8
    assert shown[0] == shown[1]


def same_bits(one: Path, other: Path) -> bool:
    mine, theirs = state(one)["state_dict"], state(other)["state_dict"]
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())
