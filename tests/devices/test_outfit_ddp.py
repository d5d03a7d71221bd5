"""Outfits in two processes: pairs are shared out, matrices replicated, and everything comes out as in one process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from finished_runs import losses, measured, same, same_state, validated, weights
from small_outfits import NARROW, WARDROBE
from whole_commands import Recexp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NGNN = [
    *NARROW, *WARDROBE, "device=cpu", "device.threads=1", "tracking=off", "trainer.progress=off",
    "trainer.log_every_n_steps=1", "trainer.updates_per_block=5", "dataset.batch_size=31", "dataset.eval_batch_size=7",
    "trainer.max_steps=30", "trainer.max_epochs=3",
]  # fmt: skip
VARIANTS = {
    "touched rows": NGNN,
    "all rows, the reference's losses": [
        *NGNN, "optim.rows=all", "model.loss=neg_sigmoid", "model.consistency=reference_bug",
    ],
    "no step, so that nothing propagates": [*NGNN, "model.steps=0"],
    "accumulated, clipped": [*NGNN, "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.05"],
    "co-occurrence, outfits in turn": [*NGNN, "model.edges=cooccurrence", "problem.shuffle=outfits"],
}  # fmt: skip


@pytest.fixture
def recexp(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Recexp:
    return Recexp(tmp_path, tmp_path_factory.getbasetemp() / "shared-cache")


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_on_outfits_like_one(recexp: Recexp, variant: str) -> None:
    recexp.run(*VARIANTS[variant])
    recexp.run(*VARIANTS[variant], "device.count=2")
    one, two = recexp.runs()
    assert one.parent == two.parent, "the number of processes is not of the identity"
    assert len(losses(one)) >= 20
    for (step, value), (number, expected) in zip(losses(two), losses(one), strict=True):
        assert step == number
        assert value == pytest.approx(expected, rel=1e-4)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(two)[name], weight, rtol=1e-3, atol=1e-4)
    assert measured(two) == pytest.approx(measured(one), abs=1e-9)


def test_two_processes_evaluate_like_one(recexp: Recexp) -> None:
    """Seven outfits in two processes: neither batches nor shares are even."""
    recexp.run(*NGNN)
    (run,) = recexp.runs()
    evaluate = [*NGNN, "task=evaluate", f"ckpt={run}"]
    one, two = (recexp.run(*evaluate, *more).stdout for more in ([], ["device.count=2"]))
    shown = [[line for line in out.splitlines() if line.startswith("test/")] for out in (one, two)]
    assert len(shown[0]) >= 12
    assert shown[0] == shown[1]


def test_requests_are_answered_by_one_process(recexp: Recexp) -> None:
    recexp.run(*NGNN)
    (run,) = recexp.runs()
    (recexp.folder / "sent.json").write_text('[{"items": [{"item": "1000_0"}, {"item": "1001_0"}]}]')
    words = ["task=predict", f"ckpt={run}", "task.input=sent.json", "device=cpu"]
    assert "set device.count=1" in recexp.run(*words, "device.count=2", code=2).stderr


@pytest.mark.parametrize("count", [1, 2])
def test_stopped_and_gone_on_with_it_ends_with_the_same_bits(recexp: Recexp, count: int) -> None:
    """Weights, mean squares and when each row was visited last; by SIGTERM in the middle of an epoch."""
    words = [word for word in NGNN if not word.startswith("trainer.max")]
    words += ["trainer.max_epochs=40", "problem.validate=true", "trainer.checkpoint_every_n_steps=5"]
    words += [f"device.count={count}"]
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
    assert same_state(half, whole)
    assert losses(half) == losses(whole)
    name = "val/fitb_random_category"
    assert validated(half, name) == validated(whole, name)
    assert measured(half) == measured(whole)
