"""Optimisers and schedules against their definitions."""

from __future__ import annotations

import copy
import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recexp.config.settings import OptimSettings, ScheduleSettings
from recexp.training.optimizers import make_optimizer, schedule_factor

L2 = 0.01
FOLDERS = [Path(__file__).parents[1] / "golden", Path(os.environ.get("RECEXP_SHARED", "")) / "golden"]
GOLDEN = next((folder / "dlrm.json" for folder in FOLDERS if (folder / "dlrm.json").exists()), None)


def train(settings: OptimSettings, *, penalty: bool, kernels: str = "fused") -> Tensor:
    """Weights after some updates of a small problem, with the L2 in the loss or in the optimiser."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(6, 3, generator=draw))
    inputs, targets = torch.randn(20, 6, generator=draw), torch.randn(20, 3, generator=draw)
    make = make_optimizer(settings, None, kernels=kernels)
    optimizer, _ = make([{"params": [weight], "l2": 0.0 if penalty else L2}])
    for _ in range(10):
        optimizer.zero_grad()
        loss = (inputs @ weight - targets).square().mean() + (L2 * weight.square().sum() if penalty else 0)
        loss.backward()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize(
    "settings",
    [
        OptimSettings("adam", lr=0.1, beta1=0.8, beta2=0.99, eps=1e-6),
        OptimSettings("adagrad", lr=0.1, initial_accumulator=0.1, eps=1e-6),
        OptimSettings("sgd", lr=0.1, momentum=0.9, nesterov=True),
        OptimSettings("rmsprop", lr=0.01, alpha=0.9, momentum=0.1, eps=1e-6),
        OptimSettings("rmsprop_tf", lr=0.01, alpha=0.8, momentum=0.1, eps=1e-6),
    ],
    ids=lambda s: s.name,
)
def test_l2_equals_the_penalty_in_the_loss(settings: OptimSettings) -> None:
    torch.testing.assert_close(train(settings, penalty=True), train(settings, penalty=False))
    for kernels in ("foreach", "plain"):
        torch.testing.assert_close(train(settings, penalty=False), train(settings, penalty=False, kernels=kernels))


def test_options_reach_the_optimiser() -> None:
    plain = train(OptimSettings("adam", lr=0.1), penalty=False)
    for change in ({"beta1": 0.5}, {"beta2": 0.5}, {"eps": 0.1}, {"weight_decay": 0.5}):
        assert not torch.equal(plain, train(OptimSettings("adam", lr=0.1, **change), penalty=False))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ScheduleSettings("linear", warmup_steps=2), [0.5, 1, 1, 0.75, 0.5, 0.25]),
        (ScheduleSettings("cosine"), [0.5 * (1 + math.cos(math.pi * u / 6)) for u in range(6)]),
        (ScheduleSettings("step", step_size=2, gamma=0.1), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (ScheduleSettings("exponential", step_size=2, gamma=0.25, min_lr=0.2), [1, 0.5, 0.25, 0.2, 0.2, 0.2]),
        (ScheduleSettings("constant", warmup_steps=4), [0.25, 0.5, 0.75, 1, 1, 1]),
    ],
    ids=lambda value: value.name if isinstance(value, ScheduleSettings) else "",
)
def test_schedules(settings: ScheduleSettings, expected: list[float]) -> None:
    factor = schedule_factor(settings, lr=1.0, total_updates=6)
    assert factor is not None
    assert [factor(u) for u in range(6)] == pytest.approx(expected)


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="cosine"):
        schedule_factor(ScheduleSettings("cosine"), 1.0, None)
    assert schedule_factor(ScheduleSettings(), 1.0, None) is None


@pytest.mark.skipif(GOLDEN is None, reason="the golden cases are not there")
@pytest.mark.parametrize("semantics", ["clean", "reference", None])
def test_golden_policy_of_dlrm(semantics: str | None) -> None:
    assert GOLDEN is not None
    case = {case["name"]: case for case in json.loads(GOLDEN.read_text())["cases"]}["lr_policy"]
    given = case["input"]
    settings = ScheduleSettings(
        "dlrm_policy", warmup_steps=given["num_warmup_steps"], decay_start=given["decay_start_step"],
        decay_steps=given["num_decay_steps"], semantics=semantics,
    )  # fmt: skip
    factor = schedule_factor(settings, given["base_lr"], None)
    assert factor is not None
    found = [given["base_lr"] * factor(count - 1) for count in given["counter"]]
    assert found == pytest.approx(case["expected"][semantics or "clean"])


class AuthorsPolicy:
    """facebookresearch/dlrm's schedule, written after its rules: what it computed last stays until the next branch."""

    def __init__(self, lr: float, warmup: int, start: int, steps: int) -> None:
        self.lr, self.warmup, self.start, self.steps = lr, warmup, start, steps
        self.last: float | None = None

    def __call__(self, count: int) -> float | None:
        if count < self.warmup:
            self.last = self.lr * (1 - (self.warmup - count) / self.warmup)
        elif self.start <= count < self.start + self.steps:
            self.last = max(1e-7, self.lr * ((self.steps - (count - self.start)) / self.steps) ** 2)
        elif not self.steps:
            return self.lr
        return self.last


@pytest.mark.parametrize(
    ("warmup", "start", "steps"), [(4, 6, 4), (5, 5, 3), (3, 9, 1), (3, 0, 0), (0, 0, 0), (2, 4, 9)]
)
@pytest.mark.parametrize("lr", [1.0, 0.02, 2e-6])
def test_policy_of_dlrm_as_its_authors_wrote_it(warmup: int, start: int, steps: int, lr: float) -> None:
    settings = ScheduleSettings(
        "dlrm_policy", warmup_steps=warmup, decay_start=start, decay_steps=steps, semantics="reference"
    )
    factor, authors = schedule_factor(copy.copy(settings), lr, None), AuthorsPolicy(lr, warmup, start, steps)
    assert factor is not None
    for count in range(1, 20):
        assert lr * factor(count - 1) == pytest.approx(authors(count), rel=1e-12), count
    clean = schedule_factor(
        ScheduleSettings("dlrm_policy", warmup_steps=warmup, decay_start=start, decay_steps=steps), lr, None
    )
    assert clean is not None
    for count in range(max(warmup, 1), start):
        assert clean(count - 1) == 1.0
    if steps:
        assert [clean(c - 1) for c in range(start, 20)] == [factor(c - 1) for c in range(start, 20)]
