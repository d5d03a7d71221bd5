"""GRU4Rec against the slow and obvious one, update by update, and its hand-written gradients against its own graph."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plain_gru4rec as plain
import pytest
import torch
from torch import Tensor

from recexp.models import kernels, native, session_losses
from recexp.models.activations import activation
from recexp.models.gru4rec import GRU4Rec
from recexp.models.gru4rec_fused import FusedGradients, applies
from recexp.models.gru_cell import gru_step
from recexp.problems.schedule import Block
from recexp.problems.session_feed import SessionFeed
from recexp.problems.session_steps import SessionBatch, SessionStep
from recexp.training.row_optimizer import RowOptimizer
from recexp.training.row_rules import AdagradMomentum

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "gru4rec.json").read_text())["cases"]
}
ITEMS, SLOTS = 40, 6


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sessions(count: int = 60) -> list[list[int]]:
    """Items from 1, some twice in a session and many in several slots at once."""
    draw = np.random.default_rng(3)
    return [(1 + np.minimum(draw.geometric(0.08, draw.integers(2, 9)) - 1, ITEMS - 1)).tolist() for _ in range(count)]


def feed(network: GRU4Rec, own: Sequence[Sequence[int]], slots: int = SLOTS, block: int = 10_000) -> SessionFeed:
    items = np.array([item for session in own for item in session], dtype=np.int32)
    end = np.cumsum([len(session) for session in own])
    support = np.bincount(items, minlength=ITEMS + 1)
    network.observe(torch.from_numpy(support), slots)
    return SessionFeed(
        items, np.concatenate(([0], end[:-1])), end, batch_size=slots, options=network.feed_options(), support=support,
        seed=7, plan={"updates_per_block": block},
    )  # fmt: skip


def epoch(source: SessionFeed, number: int = 0) -> Block[SessionBatch]:
    return source.block(number, source.plan.updates_of(number, 0))


def network_of(**options: Any) -> GRU4Rec:
    torch.manual_seed(5)
    usual = {"layers": [7], "samples": 9, "dropout_hidden": 0.3, "num_users": 1, "num_items": ITEMS}
    return GRU4Rec(**{**usual, **options})


def parameters_of(network: GRU4Rec) -> plain.Parameters:
    """Under the reference's names; its items begin at 0."""
    named = {"output": network.output[1:], "output_bias": network.output_bias[1:, 0]}
    if network.input is not None:
        named["input"] = network.input[1:]
    for number in range(len(network.layers)):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            held = getattr(network, kind)
            key = str(number) if isinstance(held, torch.nn.ParameterDict) else number
            if isinstance(held, torch.nn.ParameterList) or key in held:
                named[f"gru{number}.{kind}"] = held[key]
    return {name: value.detach().clone() for name, value in named.items()}


def settings_of(network: GRU4Rec, **options: Any) -> plain.Settings:
    return plain.Settings(
        num_items=ITEMS, layers=tuple(network.layers), embedding=network.embedding, loss=network.loss_word,
        embedding_dim=network.input_width if network.embedding == "separate" else 0, final_act=network.final_word,
        hidden_act=network.hidden_word, elu=0.5, bpreg=network.bpreg, logq=network.logq, num_samples=network.samples,
        alpha=network.sample_alpha, reduction="official" if network.per_batch_size else "legacy", batch_size=SLOTS,
        reset_after_session=network.reset_after_session, window=network.window, dropout_embed=network.dropout_embed,
        dropout_hidden=network.dropout_hidden, dtype=torch.float64, **options,
    )  # fmt: skip


def as_plain(step: SessionStep, slots: list[int], network: GRU4Rec) -> tuple[plain.Step, plain.Draws]:
    """A step in the reference's words; a feed that does not reset says so in its flags."""
    masks = [mask.double() for mask in step.dropped]
    embed = masks.pop(0) if network.dropout_embed else None
    columns = (step.column - 1).tolist()
    told = plain.Step((step.item - 1).tolist(), columns[: step.targets], step.reset.tolist(), slots, slots)
    return told, plain.Draws(np.array(columns[step.targets :], dtype=np.int64), embed, tuple(masks) or None)


CASES = [
    {},
    {"samples": 0},
    {"embedding": "separate", "embedding_dim": 5},
    {"embedding": "onehot", "layers": [6, 5]},
    {"layers": [5, 7]},
    {"cell": "tf", "hidden_act": "relu"},
    {"cell": "theano", "layers": [4, 7]},
    {"loss": "bpr", "reduction": "mean"},
    {"loss": "bpr", "final_act": "linear", "samples": 0},
    {"loss": "top1", "final_act": "relu"},
    {"loss": "bpr_max", "bpreg": 1.95},
    {"loss": "top1_max", "final_act": "linear"},
    {"final_act": "softmax_tanh", "logq": 0.0},
    {"dropout_embed": 0.25, "dropout_hidden": 0.0, "logq": 0.7, "sample_alpha": 1.0},
    {"training": "bptt", "bptt_steps": 4},
    {"training": "bptt", "bptt_steps": 3, "layers": [5, 7], "loss": "top1_max", "embedding": "separate"},
    {"reset_after_session": False},
]


@pytest.mark.parametrize("options", CASES, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()) or "official")
@pytest.mark.parametrize("part", ["beginning", "end"])
def test_updates_equal_the_reference(options: dict[str, Any], part: str) -> None:
    """The first updates of an epoch, and its last ones, where slots run out of sessions."""
    network = network_of(**options)
    own = sessions()
    source = feed(network, own)
    network.double()
    network.log_support = _support(own).clamp(min=1).log()
    optimizer = RowOptimizer(network.parameter_groups(), AdagradMomentum(0.2), lr=0.05, touched=True)
    settings = settings_of(network, lr=0.05, cell="torch" if network.cell == "official" else network.cell)
    parameters, state, hidden = parameters_of(network), None, plain.zero_hidden(settings)
    state = plain.initial_state(parameters)
    support = plain.supports([[i - 1 for i in session] for session in own], ITEMS)
    updates = epoch(source).updates
    if part == "end":
        network.carry([torch.zeros(SLOTS, width, dtype=torch.float64) for width in network.layers])
    compared = 0
    for update in updates[:5] if part == "beginning" else updates[-5:]:
        steps, draws = [], []
        (batch,) = update.batches
        for step in batch.steps:
            alive = list(range(SLOTS)) if step.alive is None else step.alive.tolist()
            told, drawn = as_plain(step, alive, network)
            steps.append(told)
            draws.append(drawn)
        batch = SessionBatch([_double(step) for step in batch.steps])
        optimizer.zero_grad()
        losses = network.loss(batch)
        total = losses.sum() if network.per_batch_size else losses.mean()
        total.backward()
        optimizer.step()
        settings_now = settings if network.reset_after_session else _keeping(settings)
        result = plain.update(parameters, state, hidden, steps, draws, settings_now, support)
        parameters, state, hidden = result.parameters, result.state, result.hidden
        if network.per_batch_size or network.window == 1:
            assert float(total.detach()) == pytest.approx(result.loss, rel=1e-9)
        for name, value in parameters_of(network).items():
            torch.testing.assert_close(value, parameters[name], rtol=1e-8, atol=1e-10, msg=_named(name))
        for own_state, expected in zip(network.carried(), hidden, strict=True):
            torch.testing.assert_close(own_state, expected, rtol=1e-8, atol=1e-10)
        compared += 1
    assert compared == 5


def _named(name: str) -> Callable[[str], str]:
    return lambda message: f"{name}: {message}"


def _support(own: Sequence[Sequence[int]]) -> Tensor:
    return torch.bincount(torch.tensor([item for session in own for item in session]), minlength=ITEMS + 1).double()


def _keeping(settings: plain.Settings) -> plain.Settings:
    """The feed's flags already say where the state is zeroed."""
    return plain.replace(settings, reset_after_session=True)


def _double(step: SessionStep) -> SessionStep:
    return SessionStep(
        step.item, step.reset, step.alive, step.column, step.own, step.targets, tuple(m.double() for m in step.dropped)
    )


@pytest.fixture(params=["compiled", "numpy"])
def arithmetic(request: pytest.FixtureRequest, compiled: Path) -> Iterator[str]:
    """Both forms of the element-wise parts."""
    kernels.choose("auto", compiled if request.param == "compiled" else None)
    assert (native.library() is not None) == (request.param == "compiled")
    yield request.param
    kernels.choose("auto")


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("embedding", ["constrained", "separate"])
@pytest.mark.parametrize(("samples", "logq"), [(0, 1.0), (12, 1.0), (12, 0.0)])
@pytest.mark.parametrize("dropout", [(0.0, 0.4), (0.2, 0.3), (0.0, 0.0)])
@pytest.mark.parametrize("reduction", ["batch_size", "mean"])
def test_gradients_by_hand(
    embedding: str, samples: int, logq: float, dropout: tuple[float, float], reduction: str
) -> None:
    """Every gradient, loss and state of a whole epoch, at weights that both networks share."""
    network = network_of(
        embedding=embedding, samples=samples, logq=logq, dropout_embed=dropout[0], dropout_hidden=dropout[1],
        reduction=reduction,
    )  # fmt: skip
    source = feed(network, sessions())
    other = copy.deepcopy(network)
    assert applies(other)
    by_hand = FusedGradients(other)
    updates = epoch(source).updates
    by_hand.prepare([update.batches[0] for update in updates])
    touched = RowOptimizer(other.parameter_groups(), AdagradMomentum(), lr=0.0, touched=True)
    for update in updates:
        (batch,) = update.batches
        scale = 1 / update.rows if reduction == "mean" else 1.0
        network.zero_grad()
        loss = network.loss(batch).sum() * scale
        loss.backward()
        found = by_hand(batch, scale)
        torch.testing.assert_close(found, loss.detach(), rtol=1e-5, atol=1e-6)
        for (name, expected), actual in zip(network.named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(dense_gradient(actual), expected.grad, rtol=2e-4, atol=2e-7, msg=_named(name))
        torch.testing.assert_close(other.carried()[0], network.carried()[0], rtol=1e-5, atol=1e-6)
        touched.zero_grad()


def dense_gradient(parameter: Tensor) -> Tensor:
    given = getattr(parameter, "row_gradient", None)
    if given is None:
        assert parameter.grad is not None
        return parameter.grad
    assert len(given.rows.unique()) == len(given.rows)
    return torch.zeros_like(parameter).index_copy(0, given.rows, given.values)


@pytest.mark.usefixtures("arithmetic")
def test_rows_that_are_touched_are_the_same_by_hand() -> None:
    """With momentum, a row that is visited with a zero gradient moves: both forms have to visit the same rows."""
    network = network_of(samples=3)
    source = feed(network, sessions())
    other = copy.deepcopy(network)
    updates = epoch(source).updates[:4]
    own, theirs = (
        RowOptimizer(n.parameter_groups(), AdagradMomentum(0.9), lr=0.01, touched=True) for n in (network, other)
    )
    by_hand = FusedGradients(other)
    by_hand.prepare([update.batches[0] for update in updates])
    for update in updates:
        own.zero_grad()
        network.loss(update.batches[0]).sum().backward()
        own.step()
        theirs.zero_grad()
        by_hand(update.batches[0], 1.0)
        theirs.update()
        for expected, actual in zip(network.parameters(), other.parameters(), strict=True):
            for key in ("velocity", "sum"):
                moved, also = own.state[expected][key] != 0, theirs.state[actual][key] != 0
                assert torch.equal(moved.any(-1), also.any(-1))


@pytest.mark.parametrize(
    "options",
    [{"layers": [5, 7]}, {"embedding": "onehot"}, {"hidden_act": "relu"}, {"loss": "bpr"}, {"cell": "tf"},
     {"training": "bptt"}, {"final_act": "softmax_tanh"}, {"smoothing": 0.1}],
    ids=str,
)  # fmt: skip
def test_unusual_options_have_no_form_by_hand(options: dict[str, Any]) -> None:
    assert not applies(network_of(**options))


def close(actual: Tensor, expected: object) -> None:
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_golden_losses() -> None:
    case = GOLDEN["losses_3x3"]
    scores, own, expected = torch.tensor(case["input"]["logits"]), torch.arange(3), case["expected"]
    close(session_losses.cross_entropy(scores, own), expected["cross_entropy_softmax_per_row"])
    for word in ("tanh", "relu"):
        value = session_losses.cross_entropy(activation(word)(scores), own).mean()
        close(value, expected[f"cross_entropy_softmax_of_{word}_mean"])
        close(session_losses.top1(activation(word)(scores), own).mean(), expected[f"top1_{word}_mean"])
    close(session_losses.bpr(scores, own).mean(), expected["bpr_legacy_linear_mean_all_pairs_incl_self"])
    close(session_losses.bpr(scores.tanh(), own).mean(), expected["bpr_legacy_tanh_mean_all_pairs_incl_self"])
    close(session_losses.top1(scores, own), expected["top1_linear_per_row"])
    close(session_losses.negative_softmax(scores, own), expected["softmax_over_negatives"])
    close(session_losses.bpr_max(scores, own), expected["bpr_max_linear_bpreg0_per_row"])
    close(
        session_losses.bpr_max(scores, own, regularisation=1.0).mean(),
        expected["bpr_max_linear_bpreg1_sum_over_batch_size"],
    )
    close(
        session_losses.bpr_max(activation("elu", 0.5)(scores), own, regularisation=1.95).mean(),
        expected["bpr_max_elu0.5_bpreg1.95_sum_over_batch_size"],
    )
    close(session_losses.top1_max(scores, own), expected["top1_max_linear_per_row"])
    close(session_losses.top1_max(scores, own).mean(), expected["top1_max_linear_sum_over_batch_size"])


def test_golden_logq() -> None:
    case = GOLDEN["sampled_cross_entropy_logq"]
    inputs, expected = case["input"], case["expected"]
    network = GRU4Rec(num_users=1, num_items=5, sample_alpha=inputs["sample_alpha"], logq=inputs["logq"])
    network.observe(torch.tensor([0, *inputs["support_inbatch"], *inputs["support_samples"]]), 3)
    none = torch.zeros(0)
    step = SessionStep(none, none, None, torch.arange(1, 6), torch.arange(3), 3)
    close(network.losses(torch.tensor(inputs["scores"]), step), expected["per_row"])
    network.logq = 0.0
    close(network.losses(torch.tensor(inputs["scores"]), step).mean(), expected["without_logq"])


def test_golden_gru_conventions() -> None:
    case = GOLDEN["gru_step_conventions"]
    x, h = torch.tensor([case["input"]["x"]]), torch.tensor([case["input"]["h"]])
    wx, wh = (torch.cat([torch.tensor(case["input"][name][gate]).T for gate in "rzn"]) for name in ("Wx", "Wh"))
    bias = torch.cat([torch.tensor(case["input"]["b"][gate]) for gate in "rzn"])
    for word, expected in (
        ("theano", "official_theano (h'=(1-z)h+z n, reset before)"),
        ("torch", "torch.nn.GRUCell (h'=z h+(1-z) n, reset after)"),
        ("tf", "tf.contrib GRUCell (h'=z h+(1-z) n, reset before)"),
    ):
        other = torch.zeros(6) if word == "torch" else None
        found = gru_step(x @ wx.T + bias, h, wh, other, convention=word, act=torch.tanh)
        close(found[0], case["expected"][expected])


def test_golden_initial_bounds() -> None:
    case = GOLDEN["init_bound"]
    hidden = case["input"]["hidden"]
    network = GRU4Rec(num_users=1, num_items=case["input"]["n_items"], layers=[hidden])
    for weight, bound in (
        (network.output[1:], case["expected"]["embedding_bound"]),
        (network.weight_hh[0], case["expected"]["recurrent_bound"]),
        (network.weight_ih["0"], case["expected"]["recurrent_bound"]),
    ):
        assert 0.999 * bound < float(weight.detach().abs().max()) <= bound * (1 + 1e-6)
    assert not network.output[0].any()
    assert not network.output_bias.any()


@pytest.mark.parametrize("options", [{}, {"init_as_normal": True, "init_sigma": 0.2}, {"init_sigma": 0.3}], ids=str)
def test_initial_distribution(options: dict[str, Any]) -> None:
    network = GRU4Rec(num_users=1, num_items=4000, layers=[30], embedding="separate", gate_bias=1.0, **options)
    sigma = options.get("init_sigma", (6 / 4030) ** 0.5)
    expected = sigma if options.get("init_as_normal") else sigma / 3**0.5
    assert float(network.input.detach()[1:].std()) == pytest.approx(expected, rel=0.02)
    assert network.bias_ih[0].tolist() == [1.0] * 60 + [0.0] * 30


@pytest.mark.parametrize("options", [{}, {"embedding": "onehot"}, {"embedding": "separate", "layers": [5, 6]}], ids=str)
def test_evaluation_runs_through_sessions_as_training_does(options: dict[str, Any]) -> None:
    network = network_of(dropout_hidden=0.0, **options).double()
    own = sessions(5)
    settings = settings_of(network, cell="torch")
    longest = max(map(len, own))
    padded = torch.tensor([session + [0] * (longest - len(session)) for session in own]).T
    with torch.no_grad():
        states = network.encode(padded)
        left = torch.tensor([[0] * (longest - len(session)) + session for session in own])
        catalogue = network.catalogue_scores(torch.zeros(5, dtype=torch.int64), left)
    for column, session in enumerate(own):
        expected = plain.session_states(parameters_of(network), [i - 1 for i in session], settings)
        torch.testing.assert_close(states[: len(expected), column], expected, rtol=1e-5, atol=1e-6)
        scores = expected[-1] @ network.output.detach()[1:].T + network.output_bias.detach()[1:, 0]
        torch.testing.assert_close(catalogue[column, 1:], scores, rtol=1e-5, atol=1e-6)


def test_smoothing_is_between_the_label_and_the_others() -> None:
    scores, own = torch.randn(4, 6), torch.tensor([0, 2, 1, 5])
    smooth = session_losses.cross_entropy(scores, own, smoothing=0.1)
    weights = torch.full((4, 6), 0.1 / 5).scatter(1, own[:, None], 1 - 0.1)
    torch.testing.assert_close(smooth, -(weights * scores.log_softmax(1)).sum(1))


def test_every_combination_trains() -> None:
    losses = ("cross_entropy", "bpr", "top1", "bpr_max", "top1_max")
    for embedding, loss, layers, training, cell, samples in itertools.product(
        ("constrained", "separate", "onehot"), losses, ([6], [6, 6]), ("bp", "bptt"), ("official", "tf"), (0, 8)
    ):
        network = network_of(
            embedding=embedding, loss=loss, layers=layers, training=training, bptt_steps=3, cell=cell, samples=samples
        )
        updates = epoch(feed(network, sessions(12), slots=5)).updates
        for update in (updates[0], updates[-1]):
            network.loss(update.batches[0]).sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
