"""The same command on the CPU and on the NPU: equal to the last bit in float32, close in the other precisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recexp.config import catalogue
from recexp.devices.build import make
from recexp.training import checkpoint_file

#: Stated before the runs: of a metric on 600 users, whose one user is 0.0017.
TOLERANCE = {"mixed": 0.02, "bf16": 0.03, "fp16": 0.02}
PLAIN = ("trainer.kernels=plain",)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint_file.load(run / "checkpoints" / "last.ckpt")["state_dict"]


def metrics(run: Path) -> dict[str, float]:
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    return {row["name"]: row["value"] for row in rows}


def assert_equal(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]
    assert metrics(one) == metrics(other)


@pytest.mark.parametrize("mode", ["inner", "dist"])
def test_float32_is_equal_to_the_last_bit(train: Callable[..., Path], mode: str) -> None:
    words = (f"model.mode={mode}", "model.targets=2", "optim.weight_decay=0.001")
    npu, cpu = train("device=npu", *words), train("device=cpu", *PLAIN, *words)
    assert_equal(npu, cpu)
    assert len(metrics(npu)) >= 5


def test_the_hand_written_forms_of_the_cpu_differ_by_rounding_only(train: Callable[..., Path]) -> None:
    npu, cpu = train("device=npu"), train("device=cpu")
    for name, value in weights(npu).items():
        torch.testing.assert_close(value, weights(cpu)[name], rtol=0, atol=1e-5)
    for name, value in metrics(npu).items():
        assert metrics(cpu)[name] == pytest.approx(value, abs=1e-3), name


@pytest.mark.parametrize("word", ["mixed", "bf16", "fp16"])
def test_the_other_precisions_stay_close(train: Callable[..., Path], word: str) -> None:
    exact, rounded = metrics(train("device=npu")), metrics(train("device=npu", f"precision={word}"))
    assert exact.keys() == rounded.keys()
    for name, value in exact.items():
        assert abs(rounded[name] - value) <= TOLERANCE[word], name


def test_the_second_npu_trains_as_the_first(train: Callable[..., Path]) -> None:
    torch.npu.reset_peak_memory_stats(1)
    second = train("device=npu", "device.index=1")
    assert torch.npu.max_memory_allocated(1) > 1e5
    assert_equal(second, train("device=npu"))
    assert json.loads((second / "config.json").read_text())["device"]["index"] == 1


def test_seeds_and_random_states_are_the_npu_s_own(train: Callable[..., Path]) -> None:
    words = ("device=npu", "model.dropout=0.3")
    assert_equal(train(*words), train(*words))
    one, other = weights(train(*words)), weights(train(*words, "seed=2"))
    assert not torch.equal(one["network.item_short"], other["network.item_short"])
    device = make({**catalogue.read("device/npu").tree["device"], "index": 1})
    device.check()
    state = device.rng_state()
    first = torch.rand(5, device="npu:1")
    torch.rand(7)
    device.set_rng_state(state)
    assert torch.equal(first, torch.rand(5, device="npu:1"))


@pytest.mark.parametrize("words", [(), ("precision=mixed",)])
def test_a_run_resumes_exactly(train: Callable[..., Path], words: tuple[str, ...]) -> None:
    dropout = ("device=npu", "model.dropout=0.3", *words)
    whole = train(*dropout)
    other = train(*dropout, "trainer.max_epochs=1")
    train(*dropout, f"resume={other}")
    assert_equal(other, whole)


def test_float32_blocks_are_float32_inside_a_mixed_step(train: Callable[..., Path]) -> None:
    mixed = weights(train("device=npu", "precision=bf16"))
    blocks = weights(train("device=npu", "precision=bf16", "precision.fp32_blocks=[attention,scores]"))
    exact = weights(train("device=npu"))
    assert torch.equal(blocks["network.item_short"], exact["network.item_short"])
    assert not torch.equal(mixed["network.item_short"], exact["network.item_short"])
