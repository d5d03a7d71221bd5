"""The same command on the CPU and on the NPU: equal to the last bit in float32, close in the other precisions."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recexp.config import catalogue
from recexp.devices.build import make
from recexp.problems.click_feed import ClickFeed
from recexp.problems.session_feed import SessionFeed
from recexp.training import checkpoint_file

#: Stated before the runs: of a metric on 600 users, whose one user is 0.0017; and of GRU4Rec's losses, relatively. Its
#: metrics are of too few clicks.
TOLERANCE = {"mixed": 0.02, "bf16": 0.03, "fp16": 0.02}
PLAIN = ("trainer.kernels=plain",)
SLOW = pytest.mark.slow
LAZY = "model.l2_scope=batch optim.name=lazy_adam optim.rows=touched"


def checkpoint(run: Path) -> dict[str, Any]:
    return checkpoint_file.load(run / "checkpoints" / "last.ckpt")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint(run)["state_dict"]


def metrics(run: Path) -> dict[str, float]:
    rows = json.loads((run / "result.json").read_text())["summary"]["metrics"]
    return {row["name"]: row["value"] for row in rows}


def losses(run: Path) -> dict[int, float]:
    events = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
    return {event["step"]: event["m"]["train/loss"] for event in events if "train/loss" in event.get("m", {})}


def trained(run: Path) -> dict[str, Any]:
    """All numbers that a training ends with: weights, the optimiser's state, what is carried from step to step."""
    kept = checkpoint(run)
    found: dict[str, Any] = dict(kept["state_dict"])
    for number, state in kept["optimizer_states"][0]["state"].items():
        found.update({f"{number}.{name}": value for name, value in state.items()})
    found.update({f"carried.{layer}": state for layer, state in enumerate(kept.get("carried", []))})
    return found


def assert_equal(one: Path, other: Path) -> None:
    a, b = trained(one), trained(other)
    assert a.keys() == b.keys()
    assert not [name for name, value in a.items() if not torch.equal(torch.as_tensor(value), torch.as_tensor(b[name]))]
    assert losses(one) == losses(other)
    assert len(losses(one)) >= 5
    assert metrics(one) == metrics(other)
    assert len(metrics(one)) >= 5


EQUAL = [
    ("attrec", "model.mode=inner model.targets=2 optim.weight_decay=0.001"),
    ("attrec", "model.mode=dist model.targets=2 optim.weight_decay=0.001"),
    ("gru4rec", ""),
    ("dlrm", ""),
    ("deepfm", ""),
    ("ngnn", ""),
]
ALSO_EQUAL = [
    ("attrec of sessions", ""),
    (
        "gru4rec",
        "model.embedding=separate model.layers=[16,12] model.dropout_embed=0.2 model.loss=bpr_max model.hidden_act=elu"
        " optim.name=adam optim.lr=0.01 optim.momentum=null optim.rows=all trainer.gradient_clip_val=1"
        " trainer.gradient_clip_algorithm=norm_per_tensor",
    ),
    ("gru4rec", "model.embedding=onehot model.loss=top1 model.hidden_act=leaky_relu optim.name=sgd optim.rows=all"),
    (
        "gru4rec",
        "model.training=bptt model.bptt_steps=3 model.cell=tf model.loss=bpr model.samples=0 model.end_rule=legacy"
        " model.reset_after_session=false optim.name=rmsprop optim.lr=0.001 optim.rows=all",
    ),
    ("gru4rec", "model.loss=top1_max optim.name=lazy_adam optim.lr=0.01 optim.momentum=null"),
    ("gru4rec of users", ""),
    (
        "dlrm",
        "model.embedding=qr model.qr_threshold=20 model.arch_interaction_op=cat model.loss=wbce"
        " model.loss_weights=[1,3] model.loss_threshold=0.001 optim.name=rowwise_adagrad optim.lr=0.01",
    ),
    (
        "dlrm",
        "model.embedding=mixed_dim model.md_threshold=20 model.arch_interaction_itself=true model.loss=mse"
        " optim.name=adagrad optim.lr=0.01 trainer.accumulate_grad_batches=2 trainer.max_epochs=3",
    ),
    ("dlrm of films", "model.weighted_pooling=learned optim.name=lazy_adam optim.lr=0.01"),
    ("dlrm of films", "model.pooling=mean optim.rows=all optim.momentum=0.9 trainer.gradient_clip_val=1"),
    (
        "deepfm",
        "model.dense=linear model.combine=projection model.batch_norm=true problem.auc=histogram " + LAZY,
    ),
    ("deepfm of films", "model.l2_linear=0 model.l2_embedding=0 model.bias=true optim.name=rmsprop"),
    ("fm", ""),
    ("lr", ""),
    (
        "ngnn",
        "model.edges=cooccurrence model.loss=neg_sigmoid model.consistency=reference_bug model.l2=0.001"
        " optim.rows=all optim.momentum=0.9 trainer.gradient_clip_val=1 problem.validate=true",
    ),
    ("ngnn", "model.edges=mean model.steps=1 problem.shuffle=outfits optim.name=lazy_adam optim.alpha=null"),
    ("ngnn", "trainer.accumulate_grad_batches=2 trainer.max_epochs=3 problem.shuffle_features=true"),
    ("ngnn of categories", "trainer.max_epochs=4"),
]


@pytest.mark.parametrize(("of", "words"), [*EQUAL, *(pytest.param(*case, marks=SLOW) for case in ALSO_EQUAL)])
def test_float32_is_equal_to_the_last_bit(train: Callable[..., Path], of: str, words: str) -> None:
    npu = train("device=npu", *words.split(), of=of)
    assert_equal(npu, train("device=cpu", *PLAIN, *words.split(), of=of))


@pytest.mark.parametrize(
    ("of", "tolerance"), [("attrec", 1e-5), ("ngnn", 1e-4), pytest.param("gru4rec", 1e-4, marks=SLOW)]
)
def test_the_hand_written_forms_of_the_cpu_differ_by_rounding_only(
    train: Callable[..., Path], of: str, tolerance: float
) -> None:
    npu, cpu = train("device=npu", of=of), train("device=cpu", of=of)
    for name, value in weights(npu).items():
        torch.testing.assert_close(value, weights(cpu)[name], rtol=0, atol=tolerance)
    for name, value in metrics(npu).items():
        assert metrics(cpu)[name] == pytest.approx(value, abs=1e-3), name


@pytest.mark.parametrize("word", ["mixed", "bf16", "fp16"])
def test_the_other_precisions_stay_close(train: Callable[..., Path], word: str) -> None:
    exact, rounded = metrics(train("device=npu")), metrics(train("device=npu", f"precision={word}"))
    assert exact.keys() == rounded.keys()
    for name, value in exact.items():
        assert abs(rounded[name] - value) <= TOLERANCE[word], name


@SLOW
@pytest.mark.parametrize("of", ["gru4rec", "gru4rec of users", "dlrm", "deepfm", "dlrm of films", "ngnn"])
@pytest.mark.parametrize("word", ["mixed", "bf16", "fp16"])
def test_the_losses_of_the_other_precisions_stay_close(train: Callable[..., Path], word: str, of: str) -> None:
    exact, rounded = losses(train("device=npu", of=of)), losses(train("device=npu", f"precision={word}", of=of))
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=TOLERANCE[word])


@SLOW
@pytest.mark.parametrize("of", ["fm", "lr"])
def test_without_matrix_products_half_precision_is_none(train: Callable[..., Path], of: str) -> None:
    assert_equal(train("device=npu", "precision=bf16", of=of), train("device=npu", of=of))


@pytest.mark.parametrize("of", ["dlrm", pytest.param("deepfm", marks=SLOW)])
def test_clicks_are_where_they_were_asked_to_be(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    build, found = ClickFeed.block, set()

    def block(feed: ClickFeed, *given: Any) -> Any:
        made = build(feed, *given)
        for batch in itertools.chain.from_iterable(update.batches for update in made.updates):
            found.update((tensor.device, tensor.dtype) for tensor in (batch.label, batch.dense, batch.ids))
        return made

    monkeypatch.setattr(ClickFeed, "block", block)
    run = train("device=npu", "precision=mixed", "device.index=1", of=of)
    assert found == {(torch.device("npu:1"), torch.float32), (torch.device("npu:1"), torch.int32)}
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    tags = {name: value for event in events for name, value in event.get("tags", {}).items()}
    assert tags["precision.computed"] == "float16", "of the products, in which this run's first block was looked at"
    assert json.loads((run / "run.json").read_text())["kind"] == "npu"


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


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``interrupt(n)``: Ctrl-C comes while block n of the next training is being built, and once only."""

    def after(count: int, kind: type = SessionFeed) -> None:
        blocks, build = itertools.count(1), kind.block

        def block(feed: Any, *given: Any) -> Any:
            if next(blocks) == count:
                os.kill(os.getpid(), signal.SIGINT)
            return build(feed, *given)

        monkeypatch.setattr(kind, "block", block)

    return after


@SLOW
@pytest.mark.parametrize(
    "words",
    [
        "",
        "model.dropout_embed=0.3 model.layers=[16,12] precision=mixed",
        "model.embedding=onehot optim.name=lazy_adam optim.momentum=null optim.lr=0.01",
        "model.training=bptt model.bptt_steps=3 model.reset_after_session=false precision=bf16",
    ],
)
def test_gru4rec_resumes_exactly_in_the_middle_of_sessions(
    train: Callable[..., Path], interrupt: Callable[..., None], words: str
) -> None:
    npu = ("device=npu", "trainer.log_every_n_steps=2", *words.split())
    whole = train(*npu, of="gru4rec")
    interrupt(2)
    other = train(*npu, of="gru4rec", code=130)
    kept = checkpoint(other)
    assert 0 < kept["global_step"] < checkpoint(whole)["global_step"]
    assert all(state.abs().sum() > 0 for state in kept["carried"])
    train(*npu, f"resume={other}", of="gru4rec")
    assert_equal(other, whole)


DROPPED = "model.dropout_deep=0.2 model.dropout_fm=0.1 model.batch_norm=true"


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("dlrm", ""),
        pytest.param("dlrm", "model.embedding=qr optim.name=rowwise_adagrad precision=bf16", marks=SLOW),
        pytest.param("deepfm", DROPPED, marks=SLOW),
        pytest.param("deepfm", f"{DROPPED} {LAZY} precision=mixed", marks=SLOW),
    ],
)
def test_clicks_resume_exactly_in_the_middle_of_an_epoch(
    train: Callable[..., Path], interrupt: Callable[..., None], of: str, words: str
) -> None:
    npu = ("device=npu", *words.split())
    whole = train(*npu, of=of)
    interrupt(2, ClickFeed)
    other = train(*npu, of=of, code=130)
    assert 0 < checkpoint(other)["global_step"] < checkpoint(whole)["global_step"] / 2, "within the first of two epochs"
    train(*npu, f"resume={other}", of=of)
    assert_equal(other, whole)


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


@SLOW
def test_gru4rec_is_float32_where_its_blocks_are(train: Callable[..., Path]) -> None:
    mixed = train("device=npu", "precision=bf16", of="gru4rec")
    blocks = train("device=npu", "precision=bf16", "precision.fp32_blocks=[gru,scores]", of="gru4rec")
    exact = train("device=npu", of="gru4rec")
    assert_equal(blocks, exact)
    assert losses(mixed) != losses(exact)
