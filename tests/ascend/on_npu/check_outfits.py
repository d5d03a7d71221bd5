"""Trainings on outfits on the NPU: nothing waits for it, runs are resumed and moved, a user's outfits are answered."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recexp import cli
from recexp.problems.module import ProblemModule
from recexp.problems.outfit import OutfitBatch
from recexp.problems.outfit_feed import OutfitFeed
from recexp.training import checkpoint_file
from tests.ascend.on_npu.check_training import assert_equal

#: Operators whose result the host has to know before it goes on, and what makes a tensor of the host's numbers.
WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "equal"}
WAITING |= {"lift_fresh"}
#: The same, where they are given truth values instead of places.
MASKED = {"index", "index_put", "index_put_", "_index_put_impl_"}


class Waits(TorchDispatchMode):
    """Notes what makes the host wait: a copy between host and NPU, pinned or not, or a result of unknown size."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        kinds = {tensor.device.type for tensor in tensors if tensor.dim() or tensor.device.type == "npu"}
        name = func.name().partition("::")[2].partition(".")[0]
        self.calls += kinds == {"npu"}
        chosen = name in MASKED and any(place.dtype == torch.bool for place in args[1] if place is not None)
        if len(kinds) > 1 or (kinds == {"npu"} and (chosen or name in WAITING)):
            self.seen.add(name)
        return out


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """What happens in the updates of the trainings that follow."""
    mode, step = Waits(), ProblemModule.training_step

    def training_step(module: ProblemModule, block: Any, number: int) -> None:
        with mode:
            step(module, block, number)

    monkeypatch.setattr(ProblemModule, "training_step", training_step)
    return mode


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("ngnn", ""),
        ("ngnn", "precision=bf16 model.edges=cooccurrence model.consistency=reference_bug optim.rows=all"),
        pytest.param("ngnn", "trainer.accumulate_grad_batches=2 trainer.gradient_clip_val=1", marks=pytest.mark.slow),
        pytest.param("ngnn of categories", "model.edges=mean", marks=pytest.mark.slow),
        pytest.param("dlrm", "", marks=pytest.mark.slow),
    ],
)
def test_no_update_waits_for_the_npu(train: Callable[..., Path], waits: Waits, of: str, words: str) -> None:
    train("device=npu", "trainer.max_epochs=1", *words.split(), of=of)
    assert waits.calls > 1000, "the updates were looked at"
    assert waits.seen == set()


def test_waiting_would_be_seen(npu: torch.device) -> None:
    table = torch.rand(5, 2, device=npu)
    for wait, name in (
        (lambda: table.sum().item(), "_local_scalar_dense"),
        (lambda: torch.arange(3).to(npu), "_to_copy"),
        (lambda: torch.tensor([1, 2], device=npu), "lift_fresh"),
        (lambda: table.cpu(), "_to_copy"),
        (lambda: table[table > 0.5], "index"),
        (lambda: (table > 0.5).nonzero(), "nonzero"),
    ):
        with Waits() as mode:
            wait()
        assert name in mode.seen
    with Waits() as mode:
        rows = torch.zeros(3, dtype=torch.int64, device=npu)
        (table[rows] * 2).index_select(0, rows).sum()
    assert mode.seen == set()


def values_of(batch: OutfitBatch) -> set[tuple[str, torch.dtype]]:
    """Devices and types of all tensors."""
    assert batch.items.present is not None
    assert batch.items.present.tolist() == list(batch.items.categories)
    parts = (batch.items, batch.outfits)
    found = [getattr(part, field.name) for part in parts for field in fields(part)]
    return {(str(value.device), value.dtype) for value in found if isinstance(value, Tensor)}


def test_batches_are_where_they_were_asked_to_be(train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    build, found = OutfitFeed.block, set()

    def block(feed: OutfitFeed, *given: Any) -> Any:
        made_block = build(feed, *given)
        for update in made_block.updates:
            found.update(*(values_of(batch) for batch in update.batches))
        return made_block

    monkeypatch.setattr(OutfitFeed, "block", block)
    run = train("device=npu", "precision=mixed", "device.index=1", of="ngnn")
    assert found == {("npu:1", kind) for kind in (torch.float32, torch.int64, torch.bool)}
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    tags = {name: value for event in events for name, value in event.get("tags", {}).items()}
    assert tags["precision.computed"] == "float16"
    assert json.loads((run / "run.json").read_text())["kind"] == "npu"


@pytest.mark.parametrize("words", ["", pytest.param("precision=mixed optim.rows=all", marks=pytest.mark.slow)])
def test_it_resumes_exactly_in_the_middle_of_an_epoch(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    npu = ("device=npu", *words.split())
    whole = train(*npu, of="ngnn")
    build, blocks = OutfitFeed.block, []

    def block(feed: OutfitFeed, *given: Any) -> Any:
        blocks.append(given)
        if len(blocks) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return build(feed, *given)

    monkeypatch.setattr(OutfitFeed, "block", block)
    other = train(*npu, of="ngnn", code=130)
    steps = [checkpoint_file.load(run / "checkpoints" / "last.ckpt")["global_step"] for run in (other, whole)]
    assert 0 < steps[0] < steps[1] / 2, "within the first of two epochs"
    train(*npu, f"resume={other}", of="ngnn")
    assert_equal(other, whole)


@pytest.mark.parametrize(("begun", "ended"), [("npu", "cpu"), ("cpu", "npu")])
def test_a_checkpoint_moves_between_devices(train: Callable[..., Path], begun: str, ended: str) -> None:
    """Half on one device and half on the other is, with the same operators on both, the whole on either."""
    plain = ("trainer.kernels=plain",)
    whole = train(f"device={begun}", *plain, of="ngnn")
    half = train(f"device={begun}", "trainer.max_epochs=1", *plain, of="ngnn")
    train(f"device={ended}", *plain, f"resume={half}", "resume_elsewhere=true", of="ngnn")
    assert_equal(half, whole)


def test_it_evaluates_and_answers_as_on_the_cpu(
    train: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("device=npu", of="ngnn")
    capsys.readouterr()
    image, words = [0.5, 1.0, 0.0, 2.0, 0.25, 0.0], [1, 7, 20]
    known = [{"item": label} for label in ("1000_0", "1001_4", "1005_2")]
    sent = [
        {"id": "known", "items": known, "complete": True},
        {"id": "own", "items": [{"category": "1003", "image": image, "words": words}, known[1]]},
    ]
    (tmp_path / "sent.json").write_text(json.dumps(sent))
    shown, answers = [], []
    for device in ("npu", "cpu"):
        common = [f"ckpt={run}", f"device={device}", f"paths.root={tmp_path}"]
        assert cli.main(["task=evaluate", *common, "tracking=off", "trainer.kernels=plain"]) == 0
        shown.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("test/")])
        path = tmp_path / f"{device}.jsonl"
        words = [f"task.input={tmp_path / 'sent.json'}", f"task.output={path}", "trainer.kernels=plain"]
        assert cli.main(["task=predict", *common, *words]) == 0
        answers.append([json.loads(line) for line in path.read_text().splitlines()])
    assert len(shown[0]) >= 12
    assert shown[0] == shown[1]
    assert answers[0] == answers[1]
    assert len(answers[0][0]["complete"]) == 10
