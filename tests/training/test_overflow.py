"""Gradients that are not finite: counted exactly, named, left out or stopped at, and never at the cost of exactness."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import Training, same, same_weights, train

from recexp.errors import RecexpError
from recexp.problems.module import Clip
from recexp.training.overflow import Overflow, listing, non_finite

#: Updates, of 12, whose gradients are spoiled.
SPOILED = {4: math.inf, 5: math.nan, 10: math.inf}


def run(folder: Path, action: str, **options: Any) -> Training:
    return train(folder, [Overflow(action, log_every_n_steps=3)], **options)


def test_counts_of_elements_agree_with_counting_by_hand() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (5,), (3, 2))]
    parameters[0].grad = torch.tensor([[1.0, math.inf, -math.inf], [math.nan, 0.0, 2.0]])
    parameters[1].grad = torch.full((4,), 3e38)
    index = torch.tensor([[0, 2, 2]])
    values = torch.tensor([[1.0, math.inf], [math.nan, 1], [1, 1]])
    parameters[3].grad = torch.sparse_coo_tensor(index, values, (3, 2), check_invariants=True)
    counts = non_finite(parameters, torch.device("cpu"))
    assert counts.tolist() == [[2, 1], [0, 0], [0, 0], [1, 1]]
    assert listing(["a", "b", "c", "d"], counts) == "a (2 inf, 1 nan), d (1 inf, 1 nan)"


def test_a_loss_scale_that_is_too_large_costs_updates_which_are_counted(tmp_path: Path) -> None:
    begin = run(tmp_path / "a", "off", init_scale=2.0**30, epochs=5)
    scaler = begin.trainer.precision_plugin.scaler
    assert begin.error is None
    counts = list(begin.counts.values())
    assert list(begin.counts) == [number for number, _ in begin.points] == list(range(3, 31, 3))
    assert counts[0] == 3
    assert counts[-1] == scaler.skipped < 20
    assert counts == sorted(counts)
    # Each skipped update halved the scale; the others changed the weights.
    assert scaler.get_scale() == 2.0 ** (30 - scaler.skipped)
    steps = {int(state["step"]) for state in begin.optimizer_state.values()}
    assert steps == {30 - scaler.skipped}
    assert begin.points[-1][1] < begin.points[0][1] / 2


@pytest.mark.parametrize("action", ["warn", "skip"])
def test_under_a_loss_scaler_the_scaler_skips_whatever_is_asked_for(tmp_path: Path, action: str) -> None:
    off = run(tmp_path / "off", "off", init_scale=2.0**24)
    other = run(tmp_path / action, action, init_scale=2.0**24)
    assert same(off, other)
    assert off.counts == other.counts
    assert max(off.counts.values()) > 2


def test_a_warning_names_updates_and_parameters_at_the_next_point(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done = run(tmp_path, "warn", spoiled={4: math.inf, 5: math.inf}, lr=0.0)
    assert done.error is None
    assert not any(value.isfinite().all() for value in done.weights.values())
    messages = [record.message for record in caplog.records if "not finite" in record.message]
    # From update 4 on every gradient is spoiled: the weights are.
    assert messages[0].startswith("3 updates with gradients that are not finite since the last report, the first one 4")
    assert "the loss was not finite in 3" in messages[0]
    assert "network.0.weight (" in messages[0]
    assert len(messages) == 3
    assert done.counts == {3: 0, 6: 3, 9: 6, 12: 9}


def test_skip_leaves_weights_and_adams_state_as_they_were(tmp_path: Path) -> None:
    seen: dict[int, tuple[dict[str, torch.Tensor], list[dict[str, Any]]]] = {}

    class Look:
        def before(self, update: Any) -> None: ...

        def after_backward(self, update: Any, loss: Any) -> None: ...

        def after(self, update: Any) -> None:
            state = update.module.optimizers().optimizer.state
            moments = [{k: torch.as_tensor(v).clone() for k, v in s.items()} for s in state.values()]
            seen[update.number] = ({n: v.clone() for n, v in update.module.state_dict().items()}, moments)

    done = train(tmp_path, [Overflow("skip", log_every_n_steps=3), Look()], spoiled=SPOILED)
    assert done.error is None
    assert done.counts == {3: 0, 6: 2, 9: 2, 12: 3}
    assert done.trainer.global_step == 12
    for number in range(2, 13):
        (before, moments_before), (after, moments_after) = seen[number - 1], seen[number]
        weights = all(torch.equal(before[name], after[name]) for name in before)
        moments = all(
            torch.equal(a[key], b[key]) for a, b in zip(moments_before, moments_after, strict=True) for key in a
        )
        assert (weights, moments) == ((True, True) if number in SPOILED else (False, False)), number
    # The same as a training whose optimiser never saw these updates.
    assert {int(state["step"]) for state in done.optimizer_state.values()} == {9}


@pytest.mark.parametrize("algorithm", ["norm", "value", "norm_per_tensor"])
def test_skip_goes_with_clipping(tmp_path: Path, algorithm: str) -> None:
    done = run(tmp_path, "skip", spoiled=SPOILED, clip=Clip(0.1, algorithm))
    assert done.error is None
    assert all(value.isfinite().all() for value in done.weights.values())
    assert done.counts[12] == 3


@pytest.mark.parametrize("algorithm", ["norm", "value", "norm_per_tensor"])
def test_clipping_bounds_the_gradients_without_their_loss_scale(tmp_path: Path, algorithm: str) -> None:
    one, other = (run(tmp_path / str(s), "off", init_scale=s, clip=Clip(0.01, algorithm)) for s in (1.0, 1024.0))
    assert one.error is other.error is None
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], rtol=1e-2, atol=1e-3)
    assert not same_weights(one, run(tmp_path / "free", "off", init_scale=1.0))


@pytest.mark.parametrize("init_scale", [None, 2.0])
def test_stop_raises_before_the_weights_are_touched(tmp_path: Path, init_scale: float | None) -> None:
    before = run(tmp_path / "a", "off", init_scale=init_scale, block=1, stop_after=3)
    stopped = run(tmp_path / "b", "stop", init_scale=init_scale, spoiled={4: math.inf}, block=2)
    assert isinstance(stopped.error, RecexpError)
    assert stopped.error.exit_code == 1
    text = str(stopped.error)
    for part in ("update 4", "network.2.weight (", "loss inf", "those of update 3", "debug.dump=[4]", "optim.lr"):
        assert part in text
    assert ("loss scale 2" in text) == (init_scale is not None)
    for name, value in before.weights.items():
        assert torch.equal(value, stopped.weights[name])


@pytest.mark.parametrize("action", ["warn", "skip", "stop"])
def test_watching_changes_no_bit_where_everything_is_finite(tmp_path: Path, action: str) -> None:
    assert same(train(tmp_path / "a"), run(tmp_path / "b", action))


@pytest.mark.parametrize(("action", "init_scale"), [("skip", None), ("warn", None), ("off", 2.0**24)])
def test_no_count_depends_on_the_size_of_a_block(tmp_path: Path, action: str, init_scale: float | None) -> None:
    runs = [
        run(tmp_path / str(size), action, block=size, spoiled=SPOILED, init_scale=init_scale, epochs=3)
        for size in (1, 5, 100)
    ]
    for other in runs[1:]:
        assert same(runs[0], other)
        assert runs[0].counts == other.counts
    assert runs[0].counts[18] >= 3


@pytest.mark.parametrize(
    ("action", "init_scale"),
    [*[(word, None) for word in ("skip", "warn")], *[(word, 2.0**24) for word in ("off", "skip")]],
)
def test_the_count_is_exact_over_a_resume_from_every_block(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, action: str, init_scale: float | None
) -> None:
    options: dict[str, Any] = {"block": 2, "spoiled": SPOILED, "init_scale": init_scale}

    def messages() -> list[str]:
        found = [record.message for record in caplog.records if "not finite" in record.message]
        caplog.clear()
        return found

    whole = run(tmp_path / "whole", action, **options)
    said = messages()
    assert whole.counts[12] >= 3
    for stop in range(1, 6):
        folder = tmp_path / str(stop)
        first = run(folder, action, stop_after=stop, **options)
        second = run(folder, action, resume=True, **options)
        assert {**first.counts, **second.counts} == whole.counts
        assert len(first.counts) + len(second.counts) == len(whole.counts)
        assert same_weights(whole, second)
        assert messages() == said
