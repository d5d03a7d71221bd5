"""The loss scaler: an overflow costs one update and is counted, a static scale stands still, a saved state goes on."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch

from recexp.devices import host, precision, rng
from recexp.devices.scaler import LossScaler, update
from recexp.errors import DeviceError

KINDS = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]),
]


def parameter(kind: str) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.ones(3, device=kind))
    return weight, torch.optim.SGD([weight], lr=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_overflow_skips_one_update_and_is_counted(kind: str) -> None:
    weight, optimizer = parameter(kind)
    scaler = LossScaler(kind, init_scale=8.0)
    update((weight * float("inf")).sum(), optimizer, scaler=scaler)
    assert torch.equal(weight.detach().cpu(), torch.ones(3))
    assert (scaler.skipped, scaler.get_scale()) == (1, 4.0)
    optimizer.zero_grad()
    update(weight.sum(), optimizer, scaler=scaler)
    assert torch.equal(weight.detach().cpu(), torch.full((3,), 0.5))
    assert scaler.skipped == 1


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_changes_neither_update_nor_clipping(kind: str) -> None:
    seen = []
    for scaler in (None, LossScaler(kind, static=1024.0)):
        weight, optimizer = parameter(kind)
        update(
            (weight * torch.tensor([3.0, 4.0, 0.0], device=kind)).sum(),
            optimizer,
            scaler=scaler,
            clip=lambda weight=weight: torch.nn.utils.clip_grad_norm_([weight], 1.0),
        )
        seen.append(weight.detach().cpu())
    assert torch.allclose(seen[0], torch.tensor([0.7, 0.6, 1.0]), atol=1e-6)
    assert torch.equal(seen[0], seen[1])


def test_a_static_scale_stands_still() -> None:
    weight, optimizer = parameter("cpu")
    scaler = LossScaler("cpu", static=32.0, growth_interval=1)
    for factor in (1.0, 1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        update((weight * factor).sum(), optimizer, scaler=scaler)
        assert scaler.get_scale() == 32.0
    assert scaler.skipped == 1
    assert torch.equal(weight.detach(), torch.full((3,), -0.5))


def test_a_saved_scaler_goes_on_counting_and_loads_safely() -> None:
    weight, optimizer = parameter("cpu")
    first = LossScaler("cpu", init_scale=8.0, growth_interval=2)
    for factor in (float("inf"), 1.0):
        optimizer.zero_grad()
        update((weight * factor).sum(), optimizer, scaler=first)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = LossScaler("cpu")
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for scaler in (first, second):
        optimizer.zero_grad()
        update(weight.sum(), optimizer, scaler=scaler)
        assert (scaler.get_scale(), scaler.skipped) == (8.0, 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "mixed"}, (65536.0, "float16 autocast, dynamic loss scale")),
        ({"name": "mixed", "loss_scale": 128.0}, (128.0, "float16 autocast, static 128 loss scale")),
        ({"name": "mixed", "init_scale": 4.0, "growth_interval": 7}, (4.0, "float16 autocast, dynamic loss scale")),
        ({"name": "fp16", "loss_scale": 16.0}, (16.0, "float16 autocast, static 16 loss scale")),
        ({"name": "fp16", "loss_scale": None}, (None, "float16 autocast")),
        ({"name": "bf16"}, (None, "bfloat16 autocast")),
        ({"name": "fp32"}, (None, "no autocast")),
    ],
)
def test_the_options_of_a_word(options: dict[str, object], expected: tuple[float | None, str]) -> None:
    policy = precision.resolve("cpu", options)
    scaler = policy.scaler()
    assert (scaler and scaler.get_scale(), policy.describe()) == (expected[0], f"float32 parameters, {expected[1]}")
    assert (getattr(policy.plugin(), "scaler", None) is None) == (scaler is None)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "mixed", "loss_scale": 2.0, "init_scale": 4.0},
        {"name": "mixed", "loss_scale": 2.0, "growth_interval": 4},
        {"name": "fp16", "growth_interval": 4},
    ],
)
def test_options_that_would_be_ignored_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DeviceError, match="belongs to a dynamic loss scale"):
        precision.resolve("cpu", options)


def test_a_word_of_another_policy_does_not_linger() -> None:
    for kind, word, mode in (("cuda", "bf16", "high"), ("cuda", "fp32", "highest"), ("cpu", "mixed", "highest")):
        precision.resolve(kind, word).activate()
        assert torch.get_float32_matmul_precision() == mode
        assert torch.backends.cudnn.allow_tf32 is (mode == "high")


def test_all_host_generators_come_back_from_a_safe_file() -> None:
    random.gauss(0, 1), np.random.standard_normal()  # both keep half of a pair
    buffer = io.BytesIO()
    torch.save(rng.host_state(), buffer)
    buffer.seek(0)

    def draw() -> list[float]:
        numbers = [random.random(), random.gauss(0, 1), np.random.standard_normal(), np.random.rand()]
        return [*numbers, *torch.rand(2).tolist()]

    before = draw()
    assert draw() != before
    rng.set_host_state(torch.load(buffer, weights_only=True))
    assert draw() == before


def test_cores_respect_the_affinity_and_the_quota(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(host, "_CPU_MAX", quota)
    assert host.usable_cores() == 8
    for text, cores in (("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1)):
        quota.write_text(text)
        assert host.usable_cores() == cores
