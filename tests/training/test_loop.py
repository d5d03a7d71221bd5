"""The loop on a small problem: exact resume from every block, and nothing that depends on how it is cut up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fitted import assert_equal, fit, weights
from pytorch_lightning.plugins.precision import MixedPrecision

from recexp.config.location import find
from recexp.config.settings import OptimSettings, TrainerSettings
from recexp.models.attrec import AttRec
from recexp.problems.module import Clip, StepSettings
from recexp.problems.next_item_build import build
from recexp.problems.posed import Posed
from recexp.training.checkpoints import BEST
from recexp.training.optimizers import make_optimizer

NEGATIVES = yaml.safe_load((find().conf / "problem" / "next_item.yaml").read_text())["negatives"]


@pytest.fixture(scope="module")
def pose(make_events) -> Callable[..., Posed]:
    draw = np.random.default_rng(0)
    events = make_events([draw.integers(1, 40, size=draw.integers(3, 15)).tolist() for _ in range(60)])

    def make(
        trainer: TrainerSettings, batch_size: int = 32, clip: Clip | None = None, log_every: int = 3, seed: int = 5,
        **model: Any,
    ) -> Posed:  # fmt: skip
        config = {
            "dataset": {"name": "handmade", "batch_size": batch_size, "eval_batch_size": 16},
            "problem": {
                "k": [5], "protocols": ["p4", "p3"], "floor": False, "eval_seed": 1, "drop_last": False,
                "negatives": NEGATIVES,
            },
            "seed": seed,
        }  # fmt: skip
        torch.manual_seed(seed)
        optimizer = make_optimizer(OptimSettings("adam", lr=0.01), None, kernels="fused")
        return build(
            config, events, trainer=trainer, step=StepSettings(optimizer, clip, log_every),
            make_network=partial(AttRec, dim=8, **model),
        )  # fmt: skip

    return make


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(before)


def test_resume_is_exact_from_every_block(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=3, updates_per_block=2)
    whole = pose(trainer, dropout=0.2)
    record, checkpoints = fit(whole, tmp_path / "whole", trainer)
    blocks = 3 * whole.data.plan.blocks
    assert blocks >= 9
    for stop in range(1, blocks + 1):
        folder = tmp_path / str(stop)
        first, _ = fit(pose(trainer, dropout=0.2), folder, trainer, stop_after=stop)
        resumed = pose(trainer, dropout=0.2, seed=5)
        torch.manual_seed(99)
        second, again = fit(resumed, folder, trainer, resume=True)
        assert_equal(whole, resumed)
        assert first.points + second.points == record.points
        assert dict(first.metrics + second.metrics) == dict(record.metrics)
        assert (again.best, again.best_step) == (checkpoints.best, checkpoints.best_step)
        assert torch.load(folder / BEST, weights_only=True)["global_step"] == again.best_step


def test_saving_in_the_middle_of_an_epoch_changes_nothing(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=2, updates_per_block=2)
    saving = replace(trainer, checkpoint_every_n_steps=2)
    one = pose(trainer, dropout=0.2)
    first, _ = fit(one, tmp_path / "a", trainer)
    other = pose(saving, dropout=0.2)
    second, _ = fit(other, tmp_path / "b", saving)
    assert first.points == second.points
    assert_equal(one, other)


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_the_size_of_a_block_changes_nothing(pose: Callable[..., Posed], tmp_path: Path, precision: str | None) -> None:
    runs = []
    for size in (1, 5, 100):
        trainer = TrainerSettings(max_epochs=2, updates_per_block=size)
        posed = pose(trainer)
        # Autocast keeps casts of the weights for as long as it is open, which is a whole block.
        plugin = MixedPrecision("bf16-mixed", "cpu") if precision else None
        runs.append((posed, fit(posed, tmp_path / str(size), trainer, precision=plugin)[0].points))
    for posed, points in runs[1:]:
        assert_equal(runs[0][0], posed)
        assert points == runs[0][1]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_accumulation_equals_the_large_batch(pose: Callable[..., Posed], tmp_path: Path, reduction: str) -> None:
    large = TrainerSettings(max_epochs=2)
    small = replace(large, accumulate_grad_batches=4)
    one, other = pose(large, batch_size=32, reduction=reduction), pose(small, batch_size=8, reduction=reduction)
    first, _ = fit(one, tmp_path / "a", large)
    second, _ = fit(other, tmp_path / "b", small)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=1e-4, atol=1e-5)
    assert [s for s, _ in first.points] == [s for s, _ in second.points]
    assert [v for _, v in first.points] == pytest.approx([v for _, v in second.points], rel=1e-4)


def test_loss_points_are_means_over_their_updates(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=2)
    every, _ = fit(pose(trainer, log_every=1), tmp_path / "a", trainer)
    third, _ = fit(pose(trainer, log_every=3), tmp_path / "b", trainer)
    losses = dict(every.points)
    assert [s for s, _ in third.points] == [s for s in losses if s % 3 == 0]
    for step, value in third.points:
        assert value == pytest.approx(np.mean([losses[step - i] for i in range(3)]), rel=1e-5)


@pytest.mark.parametrize("algorithm", ["norm", "value", "norm_per_tensor"])
def test_clipping_changes_the_weights(pose: Callable[..., Posed], tmp_path: Path, algorithm: str) -> None:
    trainer = TrainerSettings(max_epochs=1, max_steps=1)
    plain, clipped = pose(trainer), pose(trainer, clip=Clip(1e-8, algorithm))
    fit(plain, tmp_path / "a", trainer)
    fit(clipped, tmp_path / "b", trainer)
    changed = [n for n, v in weights(plain).items() if not torch.equal(v, weights(clipped)[n])]
    assert changed


def test_max_steps_ends_in_the_middle_of_an_epoch_with_a_validation(pose: Callable[..., Posed], tmp_path: Path) -> None:
    per_epoch = pose(TrainerSettings()).data.plan.updates
    for steps in (1, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch - 1):
        trainer = TrainerSettings(max_epochs=-(-steps // per_epoch), max_steps=steps, updates_per_block=2)
        record, _ = fit(pose(trainer), tmp_path / str(steps), trainer)
        assert record.metrics[-1][0] == steps


def test_training_stops_early_and_keeps_the_best(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=50)
    record, checkpoints = fit(pose(trainer), tmp_path, trainer, patience=2)
    values = [metrics["val/ndcg_at_5"] for _, metrics in record.metrics]
    assert len(values) < 50
    assert int(np.argmax(values)) == len(values) - 3
    assert checkpoints.best == max(values)
    saved = torch.load(tmp_path / BEST, weights_only=True)
    assert saved["global_step"] == checkpoints.best_step == record.metrics[int(np.argmax(values))][0]


def test_an_unknown_monitor_names_the_legal_ones(pose: Callable[..., Posed], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"trainer\.monitor=val/auk is not computed\. Legal: .*val/auc_unseen"):
        fit(pose(TrainerSettings(max_epochs=1)), tmp_path, TrainerSettings(max_epochs=1), monitor="val/auk")
