"""Click models in the loop: exact resume from every block, nothing depends on blocks, and gradients accumulate."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitted import Record, assert_equal, fit

from recexp.config.settings import OptimSettings, ScheduleSettings, TrainerSettings
from recexp.datasets.events import DataMeta
from recexp.datasets.impressions import Field, Impressions
from recexp.models import kernels
from recexp.models.deepfm import DeepFM
from recexp.models.dlrm import DLRM
from recexp.models.fm import FM
from recexp.problems.click_build import build
from recexp.problems.module import Clip, StepSettings
from recexp.problems.posed import Posed
from recexp.training.checkpoints import Checkpoints
from recexp.training.optimizers import make_optimizer

META = DataMeta("handmade", "0" * 64, "none", "test", synthetic=True, rows_read=700)
DECAY = ScheduleSettings("dlrm_policy", warmup_steps=3, decay_start=6, decay_steps=9)
SMALL = {
    "dlrm": partial(DLRM, arch_sparse_feature_size=4, arch_mlp_bot=[6, 4], arch_mlp_top=[6, 1]),
    "deepfm": partial(DeepFM, dim=4, hidden=[6, 5], dropout_deep=0.3, dropout_fm=0.1),
    "fm": partial(FM, dim=4),
}
NO_PENALTY = {"l2_linear": 0.0, "l2_embedding": 0.0}
#: Model, its options, its optimiser.
VARIANTS = {
    "dlrm, sgd": ("dlrm", {}, OptimSettings("sgd", lr=0.3, rows="touched")),
    "dlrm, rowwise, schedule": ("dlrm", {}, OptimSettings("rowwise_adagrad", lr=0.1, rows="touched", schedule=DECAY)),
    "dlrm, quotients": (
        "dlrm", {"embedding": "qr", "qr_threshold": 20}, OptimSettings("adagrad", lr=0.1, rows="touched"),
    ),
    "deepfm, lazy adam": ("deepfm", NO_PENALTY, OptimSettings("lazy_adam", lr=0.01, rows="touched")),
    "deepfm, penalty on looked-up rows": (
        "deepfm", {"l2_linear": 0.01, "l2_embedding": 0.02, "l2_scope": "batch", "batch_norm": True},
        OptimSettings("lazy_adam", lr=0.01, rows="touched"),
    ),
    "deepfm, adam": ("deepfm", {}, OptimSettings("adam", lr=0.01)),
    "fm, adagrad": ("fm", {}, OptimSettings("adagrad", lr=0.1, rows="touched")),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    kernels.choose("auto")
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> Impressions:
    """Single ids, a field of bags, and three numbers."""
    draw = np.random.default_rng(0)
    fields = (Field("kind", 20), Field("one", 1), Field("user", 120), Field("words", 9, slots=3))
    ids = np.stack([draw.integers(0, field.size, 700) for field in fields for _ in range(field.slots)], axis=1)
    ids[:, -1] = np.where(draw.random(700) < 0.5, -1, ids[:, -1])
    label = draw.random(700) < 0.2 + 0.02 * ids[:, 0]
    return Impressions(
        label=label.astype(np.uint8), dense=draw.random((700, 3), dtype=np.float32), ids=ids.astype(np.int32),
        fields=fields, dense_names=("a", "b", "c"), bounds=(0, 500, 600, 700), split="by hand", meta=META,
    )  # fmt: skip


@pytest.fixture
def pose(data: Impressions) -> Callable[..., Posed]:
    def make(
        trainer: TrainerSettings, variant: str = "dlrm, sgd", *, clip: Clip | None = None, batch: int = 50, **model: Any
    ) -> Posed:
        word, options, optim = VARIANTS[variant]
        config = {
            "dataset": {"name": "handmade", "batch_size": batch, "eval_batch_size": 64}, "seed": 4,
            "problem": {
                "name": "click", "auc": "exact", "auc_bins": 64, "shuffle": "window", "shuffle_window": 4096,
                "drop_last": False, "floor": False,
            },
        }  # fmt: skip
        torch.manual_seed(4)
        step = StepSettings(make_optimizer(optim, 20, kernels="plain"), clip, 3)
        network = partial(SMALL[word], **{**options, **model})
        return build(config, data, trainer=trainer, step=step, make_network=network)

    return make


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_is_exact_from_every_block(pose: Callable[..., Posed], tmp_path: Path, variant: str) -> None:
    """Weights, what the optimiser keeps of rows, dropout, order of rows and the best state go on where they were."""
    trainer = TrainerSettings(max_epochs=2, updates_per_block=4)
    whole = pose(trainer, variant)
    record, checkpoints = fit(whole, tmp_path / "whole", trainer)
    blocks = 2 * whole.data.plan.blocks
    assert blocks == 6
    for stop in range(1, blocks + 1):
        folder = tmp_path / str(stop)
        first, _ = fit(pose(trainer, variant), folder, trainer, stop_after=stop)
        resumed = pose(trainer, variant)
        torch.manual_seed(99)
        second, again = fit(resumed, folder, trainer, resume=True)
        assert_equal(whole, resumed)
        assert first.points + second.points == record.points
        assert dict(first.metrics + second.metrics) == dict(record.metrics)
        assert (again.best, again.best_step) == (checkpoints.best, checkpoints.best_step)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_size_of_a_block_changes_nothing(pose: Callable[..., Posed], tmp_path: Path, variant: str) -> None:
    runs: list[tuple[Posed, tuple[Record, Checkpoints]]] = []
    for size in (1, 3, 100):
        trainer = TrainerSettings(max_epochs=2, updates_per_block=size, accumulate_grad_batches=2)
        posed = pose(trainer, variant, batch=33)
        runs.append((posed, fit(posed, tmp_path / str(size), trainer)))
    for posed, (record, _) in runs[1:]:
        assert_equal(runs[0][0], posed)
        assert record.points == runs[0][1][0].points
        assert record.metrics == runs[0][1][0].metrics


@pytest.mark.parametrize("variant", ["dlrm, sgd", "dlrm, rowwise, schedule", "fm, adagrad"])
def test_accumulated_batches_equal_one_of_their_size(pose: Callable[..., Posed], tmp_path: Path, variant: str) -> None:
    """The reference's own accumulation keeps the last batch alone."""
    runs = []
    for batch, accumulate in ((60, 1), (20, 3), (30, 2)):
        trainer = TrainerSettings(max_epochs=2, accumulate_grad_batches=accumulate)
        posed = pose(trainer, variant, batch=batch)
        fit(posed, tmp_path / str(batch), trainer)
        runs.append(posed.module.state_dict())
    for state in runs[1:]:
        for name, value in state.items():
            torch.testing.assert_close(value, runs[0][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["dlrm, sgd", "deepfm, lazy adam", "fm, adagrad"])
def test_whole_gradients_and_those_of_rows_alone_agree(
    pose: Callable[..., Posed], tmp_path: Path, variant: str
) -> None:
    """Clipping needs whole gradients; with a bound that nothing reaches it changes no result but their rounding."""
    trainer, runs = TrainerSettings(max_epochs=2), []
    for clip in (None, Clip(1e6, "norm")):
        posed = pose(trainer, variant, clip=clip)
        fit(posed, tmp_path / str(clip is None), trainer)
        runs.append(posed.module.state_dict())
    for name, value in runs[1].items():
        torch.testing.assert_close(value, runs[0][name], rtol=1e-4, atol=1e-5)


def test_a_smaller_loss_is_the_better_one(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=4)
    posed = pose(trainer)
    assert "val/logloss" in posed.lower_is_better
    record, checkpoints = fit(posed, tmp_path, trainer, monitor="val/logloss")
    values = [metrics["val/logloss"] for _, metrics in record.metrics]
    assert len(values) == 4
    assert checkpoints.best == min(values)
    assert checkpoints.best_step == record.metrics[int(np.argmin(values))][0]
