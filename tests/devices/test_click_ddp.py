"""Clicks in two processes: rows are shared out, tables replicated, and everything comes out as in one process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from finished_runs import losses, measured, same, validated, weights
from whole_commands import Recexp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMON = [
    "dataset=criteo_synthetic", "dataset.impressions=6000", "dataset.max_cardinality=60", "device=cpu",
    "device.threads=1", "tracking=off", "trainer.progress=off", "trainer.log_every_n_steps=1",
    "trainer.updates_per_block=5", "dataset.eval_batch_size=500",
]  # fmt: skip
DLRM = [*COMMON, "model=dlrm", "model.arch_sparse_feature_size=8", "model.arch_mlp_bot=[16,8]",
        "model.arch_mlp_top=[16,1]", "dataset.batch_size=101"]  # fmt: skip
DEEPFM = [*COMMON, "model=deepfm", "model.dim=8", "model.hidden=[16,8]", "dataset.batch_size=101",
          "trainer.max_epochs=1"]  # fmt: skip
LAZY = ["model.l2_linear=0", "model.l2_embedding=0", "optim.name=lazy_adam", "optim.rows=touched", "optim.eps=1e-3"]
#: Adam and Adagrad divide by the gradient's own size at first, which makes a rounding of it large: eps and the initial
#: sum keep that small.
VARIANTS = {
    "dlrm": DLRM,
    "dlrm, accumulated, row-wise": [
        *DLRM, "trainer.accumulate_grad_batches=2", "optim.name=rowwise_adagrad", "optim.initial_accumulator=0.1",
    ],
    "dlrm, clipped": [*DLRM, "trainer.gradient_clip_val=0.05"],
    "deepfm": [*DEEPFM, "optim.eps=1e-3"],
    "deepfm, lazy adam": [*DEEPFM, *LAZY],
}  # fmt: skip


@pytest.fixture
def recexp(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Recexp:
    return Recexp(tmp_path, tmp_path_factory.getbasetemp() / "shared-cache")


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_on_clicks_like_one(recexp: Recexp, variant: str) -> None:
    recexp.run(*VARIANTS[variant])
    recexp.run(*VARIANTS[variant], "device.count=2")
    one, two = recexp.runs()
    assert one.parent == two.parent, "the number of processes is not of the identity"
    assert len(losses(one)) >= 20
    for (step, value), (number, expected) in zip(losses(two), losses(one), strict=True):
        assert step == number
        assert value == pytest.approx(expected, rel=1e-5)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(two)[name], weight, rtol=1e-5, atol=1e-5)
    assert measured(two) == pytest.approx(measured(one), rel=1e-4)
    assert len(measured(one)) == 6


@pytest.mark.parametrize("auc", ["exact", "histogram"])
def test_two_processes_evaluate_like_one(recexp: Recexp, auc: str) -> None:
    """The area is that of all rows, not a mean of two areas."""
    recexp.run(*DLRM, "trainer.max_steps=20")
    (run,) = recexp.runs()
    evaluate = [*DLRM, "trainer.max_steps=20", "task=evaluate", f"ckpt={run}", f"problem.auc={auc}"]
    one, two = (recexp.run(*evaluate, *more).stdout for more in ([], ["device.count=2"]))
    shown = [[line for line in out.splitlines() if line.startswith("test/")] for out in (one, two)]
    assert len(shown[0]) == (6 if auc == "exact" else 7)
    assert shown[0] == shown[1]


def test_two_processes_go_on_where_they_were_stopped(recexp: Recexp) -> None:
    words = [*DLRM, "trainer.max_epochs=12", "trainer.checkpoint_every_n_steps=5", "device.count=2"]
    recexp.run(*words)
    (whole,) = recexp.runs()
    process = recexp.start(*words)
    while len(saved := list(recexp.folder.glob("runs/*/*/checkpoints/last.ckpt"))) < 2:
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(120) == 143
    (half,) = {path.parents[1] for path in saved} - {whole}
    assert 0 < len(losses(half)) < len(losses(whole))
    recexp.run(*words, f"resume={half}")
    assert same(weights(half), weights(whole))
    assert losses(half) == losses(whole)
    assert validated(half, "val/auc") == validated(whole, "val/auc")
