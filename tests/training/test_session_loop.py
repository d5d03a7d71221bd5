"""The loop with a network that carries a state: exact resume from every block, and nothing that depends on blocks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitted import assert_equal, fit

from recexp.config.settings import OptimSettings, ScheduleSettings, TrainerSettings
from recexp.models import kernels
from recexp.models.gru4rec import GRU4Rec
from recexp.problems.module import Clip, StepSettings
from recexp.problems.posed import Posed
from recexp.problems.session_build import build
from recexp.training.optimizers import make_optimizer

VARIANTS = {
    "by hand": {},
    "two layers": {"layers": [6, 8]},
    "windows": {"training": "bptt", "bptt_steps": 3},
    "carried on": {"reset_after_session": False, "samples": 0},
}


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
def pose(make_events) -> Callable[..., Posed]:
    draw = np.random.default_rng(0)
    events = make_events([draw.integers(1, 40, size=draw.integers(2, 9)).tolist() for _ in range(70)])

    def make(
        trainer: TrainerSettings, *, validate: bool = True, clip: Clip | None = None, rows: str = "touched",
        optim: str = "adagrad_momentum", seed: int = 5, **model: Any,
    ) -> Posed:  # fmt: skip
        config = {
            "dataset": {"name": "handmade", "batch_size": 6, "eval_batch_size": 16},
            "problem": {
                "k": [5], "ties": "conservative", "validate": validate, "test_share": 0.2, "leakage": "refuse",
                "floor": False,
            },
            "seed": seed,
        }  # fmt: skip
        torch.manual_seed(seed)
        momentum = {"momentum": 0.3} if optim == "adagrad_momentum" else {}
        optimizer = make_optimizer(OptimSettings(optim, lr=0.05, rows=rows, **momentum), None, kernels="plain")
        usual = {"layers": [8], "samples": 7, "dropout_hidden": 0.3}
        return build(
            config, events, trainer=trainer, step=StepSettings(optimizer, clip, 3),
            make_network=partial(GRU4Rec, **{**usual, **model}),
        )  # fmt: skip

    return make


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_is_exact_from_every_block(pose: Callable[..., Posed], tmp_path: Path, variant: str) -> None:
    """Slots, carried state, samples and dropout go on where they were."""
    trainer = TrainerSettings(max_epochs=2, updates_per_block=5)
    whole = pose(trainer, **VARIANTS[variant])
    record, checkpoints = fit(whole, tmp_path / "whole", trainer)
    blocks = 2 * whole.data.plan.blocks
    assert blocks >= 4
    for stop in range(1, blocks + 1):
        folder = tmp_path / str(stop)
        first, _ = fit(pose(trainer, **VARIANTS[variant]), folder, trainer, stop_after=stop)
        resumed = pose(trainer, **VARIANTS[variant])
        torch.manual_seed(99)
        second, again = fit(resumed, folder, trainer, resume=True)
        assert_equal(whole, resumed)
        assert first.points + second.points == record.points
        assert dict(first.metrics + second.metrics) == dict(record.metrics)
        assert (again.best, again.best_step) == (checkpoints.best, checkpoints.best_step)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_size_of_a_block_changes_nothing(pose: Callable[..., Posed], tmp_path: Path, variant: str) -> None:
    runs = []
    for size in (1, 5, 100):
        trainer = TrainerSettings(
            max_epochs=2, updates_per_block=size, accumulate_grad_batches=2 if variant == "by hand" else 1
        )
        posed = pose(trainer, **VARIANTS[variant])
        runs.append((posed, fit(posed, tmp_path / str(size), trainer)[0].points))
    for posed, points in runs[1:]:
        assert_equal(runs[0][0], posed)
        assert points == runs[0][1]


def test_gradients_by_hand_are_used_and_equal_those_of_the_graph(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=1, updates_per_block=4)
    runs = {}
    for word in ("auto", "plain"):
        kernels.choose(word)
        posed = pose(trainer)
        runs[word] = (posed, fit(posed, tmp_path / word, trainer)[0])
        assert posed.module.gradients_by_hand() is not None or word == "plain"
    for (step, value), (also, other) in zip(*(record.points for _, record in runs.values()), strict=True):
        assert step == also
        assert value == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("reason", ["clipping", "all rows"])
def test_whoever_looks_at_whole_gradients_gets_the_graph(
    pose: Callable[..., Posed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    trainer = TrainerSettings(max_epochs=1)
    posed = pose(
        trainer, clip=Clip(1.0, "norm_per_tensor") if reason == "clipping" else None,
        rows="all" if reason == "all rows" else "touched", optim="adam" if reason == "all rows" else "adagrad_momentum",
    )  # fmt: skip

    def refuse() -> None:
        raise AssertionError("gradients by hand")

    monkeypatch.setattr(posed.module, "gradients_by_hand", refuse)
    fit(posed, tmp_path, trainer)


def test_without_validation_the_last_state_is_what_is_tested(pose: Callable[..., Posed], tmp_path: Path) -> None:
    trainer = TrainerSettings(max_epochs=2)
    posed = pose(trainer, validate=False)
    assert not posed.validates
    _, checkpoints = fit(posed, tmp_path, trainer)
    assert checkpoints.best_path == checkpoints.last_path


def test_fewer_sessions_than_slots(make_events, tmp_path: Path) -> None:
    events = make_events([[1, 2, 3], [2, 3, 1], [3, 2], [1, 3, 2]])
    config = {
        "dataset": {"name": "handmade", "batch_size": 50, "eval_batch_size": 16}, "seed": 1,
        "problem": {
            "k": [2], "ties": "conservative", "validate": False, "test_share": 0.3, "leakage": "refuse", "floor": True,
        },
    }  # fmt: skip
    trainer = TrainerSettings(max_epochs=1)
    optimizer = make_optimizer(OptimSettings("adagrad_momentum", lr=0.05, rows="touched"), None, kernels="plain")
    posed = build(
        config, events, trainer=trainer, step=StepSettings(optimizer, None, 1),
        make_network=partial(GRU4Rec, layers=[4], samples=0),
    )  # fmt: skip
    record, _ = fit(posed, tmp_path, trainer)
    assert len(record.points) == posed.data.plan.updates
    assert posed.floor is not None
    assert set(posed.floor(torch.device("cpu"))) == {"test/recall_at_2", "test/mrr_at_2"}


def test_a_logged_rate_is_that_of_its_own_update(pose: Callable[..., Posed], tmp_path: Path) -> None:
    """However many updates a block has, and although the schedule has gone on when the block is over."""
    for size in (1, 64):
        trainer = TrainerSettings(max_epochs=1, updates_per_block=size)
        posed = pose(trainer)
        schedule = ScheduleSettings("step", step_size=4, gamma=0.5)
        settings = OptimSettings("adagrad_momentum", lr=0.4, momentum=0.1, rows="touched", schedule=schedule)
        posed.module.settings = StepSettings(make_optimizer(settings, None, kernels="plain"), None, 3)
        record, _ = fit(posed, tmp_path / str(size), trainer)
        assert record.rates == {step: 0.4 * 0.5 ** ((step - 1) // 4) for step, _ in record.points}


def test_accumulated_batches_are_averaged(pose: Callable[..., Posed], tmp_path: Path) -> None:
    """A sum over the slots of one batch must not grow with the number of batches."""
    losses = []
    for batches in (1, 2):
        trainer = TrainerSettings(max_epochs=1, accumulate_grad_batches=batches)
        record, _ = fit(pose(trainer, dropout_hidden=0.0), tmp_path / str(batches), trainer)
        losses.append(record.points[0][1])
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_a_correction_too_strong_for_weights_is_left_to_the_graph(pose: Callable[..., Posed]) -> None:
    assert pose(TrainerSettings(max_epochs=1)).module.gradients_by_hand() is not None
    assert pose(TrainerSettings(max_epochs=1), logq=30.0).module.gradients_by_hand() is None


def test_a_run_that_goes_on_with_another_arithmetic_says_so(
    pose: Callable[..., Posed], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = TrainerSettings(max_epochs=2, updates_per_block=5)
    fit(pose(trainer), tmp_path, trainer, stop_after=1)
    kernels.choose("plain")
    resumed = pose(trainer)
    fit(resumed, tmp_path, trainer, resume=True)
    assert "were computed by gradients by hand, numpy before, and are by torch's graph" in caplog.text
    assert resumed.module.arithmetic == "torch's graph"
