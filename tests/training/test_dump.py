"""Dumps of single updates: what they hold is what the update computed, and the training does not notice."""

from __future__ import annotations

import csv
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import WIDTH, Rows, same, train

from recexp.problems.module import Clip
from recexp.training import msprobe
from recexp.training.dump import COLUMNS, STATISTICS, Dump, statistics, tensors
from recexp.training.msprobe import MsprobeDump, configuration
from recexp.training.overflow import Overflow


class Keep:
    """Keeps what every update was made of, by an independent way: copies on the spot."""

    def __init__(self) -> None:
        self.parameters: dict[int, dict[str, torch.Tensor]] = {}
        self.gradients: dict[int, dict[str, torch.Tensor]] = {}
        self.batches: dict[int, list[Rows]] = {}
        self.losses: dict[int, torch.Tensor] = {}

    def before(self, update: Any) -> None:
        self.parameters[update.number] = {name: value.detach().clone() for name, value in update.parameters()}
        self.batches[update.number] = update.update.batches

    def after_backward(self, update: Any, loss: torch.Tensor) -> None:
        self.losses[update.number] = loss.clone()
        self.gradients[update.number] = {name: value.grad.clone() for name, value in update.parameters()}

    def after(self, update: Any) -> None: ...


def rows(folder: Path, step: int) -> dict[tuple[str, str], dict[str, str]]:
    path = folder / f"step{step}" / "rank0" / STATISTICS
    with path.open() as stream:
        return {(row["name"], row["kind"]): row for row in csv.DictReader(stream)}


def value(folder: Path, step: int, name: str, kind: str) -> np.ndarray:
    row = rows(folder, step)[name, kind]
    array = np.load(folder / f"step{step}" / "rank0" / row["file"])
    assert str(array.dtype) == row["stored"]
    return array


def test_statistics_of_the_finite_elements() -> None:
    found = statistics(torch.tensor([[3.0, -4.0], [math.nan, math.inf]], dtype=torch.bfloat16))
    assert found == {"nan": 1, "inf": 1, "min": -4, "max": 3, "mean": -0.5, "norm": 5}
    assert statistics(torch.tensor([math.nan])) == {"nan": 1, "inf": 0}
    assert statistics(torch.tensor([True, False])) == {"nan": 0, "inf": 0, "min": 0, "max": 1, "mean": 0.5, "norm": 1}


def test_tensors_are_found_wherever_they_are() -> None:
    @dataclass
    class Inner:
        a: torch.Tensor
        b: int = 3

    one = torch.zeros(1)
    found = dict(tensors({"x": [one, (one, None)], "y": Inner(one)}, "t"))
    assert list(found) == ["t.x.0", "t.x.1.0", "t.y.a"]


@pytest.mark.parametrize("init_scale", [None, 16.0])
def test_all_of_an_update_is_there(tmp_path: Path, init_scale: float | None) -> None:
    keep, folder = Keep(), tmp_path / "dump"
    dump = Dump(folder, [4], values=True)
    done = train(tmp_path, [dump, keep], accumulate=2, init_scale=init_scale, clip=Clip(1e-3, "value"))
    assert done.error is None
    assert [path.name for path in folder.iterdir()] == ["step4"]
    for name, expected in keep.parameters[4].items():
        np.testing.assert_array_equal(value(folder, 4, name, "parameter"), expected.numpy())
        # Without the loss scale, and not clipped.
        gradient = keep.gradients[4][name] / (init_scale or 1.0)
        np.testing.assert_array_equal(value(folder, 4, name, "gradient"), gradient.numpy())
        assert gradient.abs().max() > 1e-3
    assert len(keep.batches[4]) == 2
    for number, batch in enumerate(keep.batches[4]):
        np.testing.assert_array_equal(value(folder, 4, f"batch{number}.x", "input"), batch.x.numpy())
        np.testing.assert_array_equal(value(folder, 4, f"batch{number}.y", "input"), batch.y.numpy())
        # The first layer has seen that batch, and the last one's output has the gradient of the loss.
        np.testing.assert_array_equal(value(folder, 4, f"network.0.call{number}.input.0", "input"), batch.x.numpy())
        predicted = value(folder, 4, f"network.call{number}.output", "output").astype(np.float32)[:, 0]
        slope = 2 * (predicted - batch.y.numpy()) / 8
        found = value(folder, 4, f"network.2.call{number}.output", "gradient")[:, 0]
        np.testing.assert_allclose(found, slope, rtol=1e-5 if init_scale is None else 1e-2)
    assert value(folder, 4, "loss", "output") == keep.losses[4].numpy()
    row = rows(folder, 4)["network.0.weight", "gradient"]
    gradient = keep.gradients[4]["network.0.weight"].double() / (init_scale or 1.0)
    assert row["shape"] == f"4x{WIDTH}"
    assert float(row["norm"]) == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert tuple(row) == COLUMNS


def test_half_precision_is_named_and_stored(tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    train(tmp_path, [Dump(folder, [2], values=True)], init_scale=16.0)
    row = rows(folder, 2)["network.0.call0.output", "output"]
    assert (row["dtype"], row["stored"]) == ("float16", "float16")


def test_bfloat16_is_stored_as_float32(tmp_path: Path) -> None:
    from recexp.training.dump import _Folder

    folder = _Folder(tmp_path / "x", values=True, scope=[])
    folder.add("a", "output", torch.tensor([1.0, 3.140625], dtype=torch.bfloat16))
    folder.close()
    (row,) = list(csv.DictReader((tmp_path / "x" / STATISTICS).open()))
    assert (row["dtype"], row["stored"]) == ("bfloat16", "float32")
    np.testing.assert_array_equal(np.load(tmp_path / "x" / row["file"]), np.float32([1, 3.140625]))


def test_statistics_alone_write_no_values(tmp_path: Path) -> None:
    train(tmp_path, [Dump(tmp_path / "dump", [1, 3], values=False)])
    assert sorted(path.name for path in (tmp_path / "dump").rglob("*.*")) == [STATISTICS, STATISTICS]
    assert rows(tmp_path / "dump", 3)["network.0.weight", "gradient"]["file"] == ""


def test_scope_and_ranks_choose(tmp_path: Path) -> None:
    train(tmp_path, [Dump(tmp_path / "a", [2], values=False, scope=["network.2*", "loss"])])
    names = {name for name, _ in rows(tmp_path / "a", 2)}
    assert names == {
        "network.2.weight", "network.2.bias", "network.2.call0.input.0", "network.2.call0.output", "loss",
    }  # fmt: skip
    train(tmp_path, [Dump(tmp_path / "b", [2], values=False, ranks=[1])])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("init_scale", [None, 2.0**24])
def test_a_dump_changes_no_bit_and_does_not_depend_on_blocks(tmp_path: Path, init_scale: float | None) -> None:
    plain = train(tmp_path / "plain", init_scale=init_scale)
    for size in (1, 5):
        folder = tmp_path / str(size)
        done = train(folder, [Dump(folder / "dump", [3, 4, 9], values=True)], block=size, init_scale=init_scale)
        assert same(plain, done)
    for path in (tmp_path / "1" / "dump").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "5" / path.relative_to(tmp_path / "1")).read_bytes()
    assert len(list((tmp_path / "1" / "dump").rglob("*.npy"))) > 40


def test_a_dump_after_a_resume_is_the_one_of_the_whole_run(tmp_path: Path) -> None:
    train(tmp_path / "whole", [Dump(tmp_path / "whole" / "dump", [5], values=False)], block=2)
    train(tmp_path / "cut", [Dump(tmp_path / "cut" / "dump", [1], values=False)], block=2, stop_after=2)
    train(tmp_path / "cut", [Dump(tmp_path / "cut" / "dump", [5], values=False)], block=2, resume=True)
    assert rows(tmp_path / "cut" / "dump", 5) == rows(tmp_path / "whole" / "dump", 5)
    assert rows(tmp_path / "cut" / "dump", 1)


def test_the_update_that_stops_a_training_is_dumped(tmp_path: Path) -> None:
    watchers = [Dump(tmp_path / "dump", [4], values=False), Overflow("stop", log_every_n_steps=3)]
    done = train(tmp_path, watchers, spoiled={4: math.inf})
    assert "update 4" in str(done.error)
    row = rows(tmp_path / "dump", 4)["network.2.weight", "gradient"]
    assert int(row["inf"]) + int(row["nan"]) == 4


def test_no_hook_stays(tmp_path: Path) -> None:
    done = train(tmp_path, [Dump(tmp_path / "dump", [4], values=False)])
    assert not [module for module in done.module.modules() if module._forward_hooks]


def test_an_update_that_never_comes_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train(tmp_path, [Dump(tmp_path / "dump", [4, 13, 99], values=False)])
    assert "this training had no update 13, 99" in caplog.text


def test_msprobes_configuration() -> None:
    tensor = configuration(Path("d"), values=True, level="mix")
    assert tensor["task"] == "tensor"
    assert tensor["level"] == "mix"
    assert "summary_mode" not in tensor["tensor"]
    assert configuration(Path("d"), values=False, level="L0")["statistics"]["summary_mode"] == "statistics"


def test_msprobe_sees_the_chosen_updates_alone(tmp_path: Path) -> None:
    reason = msprobe.missing()
    if reason is not None:
        pytest.skip(f"msprobe cannot be used here: {reason}")
    plain = train(tmp_path / "plain")
    folder = tmp_path / "dump"
    done = train(tmp_path / "a", [MsprobeDump(folder, [3, 8], values=False, level="mix")], block=5)
    assert done.error is None
    assert same(plain, done)
    assert sorted(path.name for path in folder.iterdir()) == ["msprobe-rank0.json", "step3", "step8"]
    for step in (3, 8):
        data = json.loads((folder / f"step{step}" / "rank0" / "dump.json").read_text())["data"]
        assert any(name.startswith("Functional.linear") for name in data)
        assert any(name.startswith("Module.network.0.Linear.backward") for name in data)
    # Another training in this process would get the first one's files.
    again = train(tmp_path / "b", [MsprobeDump(folder, [3], values=False, level="mix")])
    assert "one training of a process" in str(again.error)
