"""The plain GRU4Rec against the hand-computed cases, against torch's own parts, and against what it promises."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plain_gru4rec as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "gru4rec.json").read_text())["cases"]
}
LOSSES = CASES["losses_3x3"]["expected"]
SCORES = torch.tensor(CASES["losses_3x3"]["input"]["logits"], dtype=torch.float64)
TRAINS = "official_train_without_samples"

#: Any sessions, the short and the empty-handed ones as well, in which every event is an item of its own.
sessions_of_distinct_items = st.lists(st.integers(1, 6), max_size=12).map(
    lambda lengths: [list(range(end - own, end)) for own, end in zip(lengths, itertools.accumulate(lengths))]  # noqa: B905
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Matrices of four by four are not worth a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def close(actual: object, expected: object) -> None:
    actual, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


# ---- the schedule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "end"), [("official_eval", "official"), ("official_train", TRAINS), ("legacy", "legacy")]
)
def test_golden_schedule(case: str, end: plain.End) -> None:
    golden = CASES[f"session_parallel_3_sessions_{case}"]
    sessions = golden["input"]["sessions_in_order"]
    steps = list(plain.schedule([own["items"] for own in sessions], golden["input"]["batch_size"], end))
    found = [
        {
            "slots": [sessions[k]["id"] for k in step.sessions],
            "in": step.inputs,
            "out": step.targets,
            "reset_before": step.resets,
        }
        for step in steps
    ]
    assert found == golden["expected"]["steps"]
    assert sum(len(step.targets) for step in steps) == golden["expected"]["n_predictions"]
    assert sum(len(own["items"]) - 1 for own in sessions) == golden["expected"]["total_predictable"]


@given(sessions_of_distinct_items, st.integers(1, 5))
def test_every_transition_comes_once_and_in_order(sessions: list[list[int]], slots: int) -> None:
    seen: dict[int, list[tuple[int, int]]] = {}
    for step in plain.schedule(sessions, slots, "official"):
        assert len(set(step.slots)) == len(step.slots) == len(step.targets) <= slots
        for session, item, target, reset in zip(step.sessions, step.inputs, step.targets, step.resets, strict=True):
            assert reset == (item == sessions[session][0])
            seen.setdefault(session, []).append((item, target))
    assert seen == {k: list(itertools.pairwise(own)) for k, own in enumerate(sessions) if len(own) > 1}


@given(sessions_of_distinct_items, st.integers(1, 5))
def test_a_session_keeps_its_slot(sessions: list[list[int]], slots: int) -> None:
    slot_of: dict[int, int] = {}
    for step in plain.schedule(sessions, slots, "official"):
        for session, slot, reset in zip(step.sessions, step.slots, step.resets, strict=True):
            assert reset == (session not in slot_of)
            assert slot_of.setdefault(session, slot) == slot


@given(sessions_of_distinct_items, st.integers(1, 5))
def test_the_other_ends_are_beginnings_of_the_official_one(sessions: list[list[int]], slots: int) -> None:
    whole = list(plain.schedule(sessions, slots, "official"))
    training = list(plain.schedule(sessions, slots, TRAINS))
    assert training == [step for step in whole if len(step.slots) > 1]
    legacy = list(plain.schedule(sessions, slots, "legacy"))
    assert legacy == whole[: len(legacy)]
    assert all(len(step.slots) == min(slots, len(sessions)) for step in legacy)


@given(sessions_of_distinct_items, st.integers(1, 4))
def test_the_schedule_in_blocks_is_the_same(sessions: list[list[int]], slots: int) -> None:
    """The other way to say it: as many steps as the shortest live session has, then new sessions (section 3)."""
    taken = list(range(min(slots, len(sessions))))
    live = [(k, 0) for k in taken]
    expected = []
    while live:
        block = min(len(sessions[k]) - at for k, at in live)
        for i in range(block - 1):
            expected.append([(sessions[k][at + i], sessions[k][at + i + 1], at + i == 0) for k, at in live])
        following: list[tuple[int, int]] = []
        for k, at in live:
            if len(sessions[k]) - (at + block - 1) > 1:
                following.append((k, at + block - 1))
            elif len(taken) < len(sessions):
                taken.append(len(taken))
                following.append((taken[-1], 0))
        live = following
    steps = plain.schedule(sessions, slots, "official")
    assert [list(zip(step.inputs, step.targets, step.resets, strict=True)) for step in steps] == expected


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "act", "loss"),
    [
        ("cross_entropy_softmax_mean", "linear", plain.cross_entropy),
        ("cross_entropy_softmax_of_tanh_mean", "tanh", plain.cross_entropy),
        ("cross_entropy_softmax_of_relu_mean", "relu", plain.cross_entropy),
        ("bpr_legacy_linear_mean_all_pairs_incl_self", "linear", plain.bpr),
        ("bpr_legacy_tanh_mean_all_pairs_incl_self", "tanh", plain.bpr),
        ("bpr_linear_mean_over_negatives_only", "linear", lambda s: plain.bpr(s, include_self=False)),
        ("top1_linear_mean", "linear", plain.top1),
        ("top1_tanh_mean", "tanh", plain.top1),
        ("top1_relu_mean", "relu", plain.top1),
        ("top1_max_linear_sum_over_batch_size", "linear", plain.top1_max),
        ("bpr_max_linear_bpreg0_sum_over_batch_size", "linear", lambda s: plain.bpr_max(s, 0.0)),
        ("bpr_max_linear_bpreg1_sum_over_batch_size", "linear", lambda s: plain.bpr_max(s, 1.0)),
        ("bpr_max_elu0.5_bpreg1.95_sum_over_batch_size", "elu", lambda s: plain.bpr_max(s, 1.95)),
    ],
)
def test_golden_losses(name: str, act: str, loss: Any) -> None:
    close(loss(plain.final_activation(SCORES, act, 0.5)).mean(), LOSSES[name])


def test_golden_losses_of_rows() -> None:
    close(plain.cross_entropy(SCORES), LOSSES["cross_entropy_softmax_per_row"])
    close(plain.top1(SCORES), LOSSES["top1_linear_per_row"])
    close(plain.softmax_over_negatives(SCORES), LOSSES["softmax_over_negatives"])
    close(plain.bpr_max(SCORES, 0.0), LOSSES["bpr_max_linear_bpreg0_per_row"])
    close(plain.top1_max(SCORES), LOSSES["top1_max_linear_per_row"])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"loss": "cross_entropy"}, "cross_entropy_softmax_mean"),
        ({"loss": "bpr", "final_act": "tanh"}, "bpr_legacy_tanh_mean_all_pairs_incl_self"),
        ({"loss": "top1"}, "top1_linear_mean"),
        ({"loss": "top1_max"}, "top1_max_linear_sum_over_batch_size"),
        ({"loss": "bpr_max", "final_act": "elu", "bpreg": 1.95}, "bpr_max_elu0.5_bpreg1.95_sum_over_batch_size"),
    ],
)
def test_golden_losses_by_settings(options: dict[str, Any], name: str) -> None:
    own = plain.Settings(num_items=3, batch_size=3, **options)
    losses = plain.row_losses(SCORES, own)
    close(plain.reduce(losses, own), LOSSES[name])
    close(plain.reduce(losses, replace(own, batch_size=6)), LOSSES[name] / 2)
    close(plain.reduce(losses, replace(own, batch_size=6, reduction="legacy")), LOSSES[name])


def test_golden_cross_entropy_with_logq() -> None:
    given_, expected = (CASES["sampled_cross_entropy_logq"][key] for key in ("input", "expected"))
    scores = torch.tensor(given_["scores"], dtype=torch.float64)
    close(plain.cross_entropy(scores).sum() / 3, expected["without_logq"])
    support = [torch.tensor(given_[key]) for key in ("support_inbatch", "support_samples")]
    losses = plain.cross_entropy(scores - given_["logq"] * plain.log_q(*support, given_["sample_alpha"]))
    close(losses, expected["per_row"])
    close(losses.sum() / 3, expected["sum_over_batch_size"])


def test_logq_reaches_the_loss_of_a_step() -> None:
    """The golden scores come out of a network whose state is 0 but for the bias: only the biases differ per column."""
    own = small(loss="cross_entropy", logq=1.0, alpha=0.5, batch_size=2)
    parameters = {name: torch.zeros_like(value) for name, value in start(own).items()}
    parameters["output_bias"] = torch.arange(own.num_items).double()
    support = torch.arange(1, own.num_items + 1).double() ** 2
    step = plain.Step([0, 1], [2, 3], [True, True], [0, 1], [0, 1])
    loss, _ = plain.step_loss(
        parameters, plain.zero_hidden(own), step, plain.Draws(np.array([5, 2])), own, support
    )  # fmt: skip
    scores = torch.tensor([2.0, 3.0, 5.0, 2.0]).double() - torch.log(torch.tensor([9.0, 16.0, 6.0, 3.0]).double())
    close(loss, (2 * torch.logsumexp(scores, 0) - scores[0] - scores[1]) / 2)


# ---- the cell -------------------------------------------------------------------------------------------------------


def test_golden_conventions() -> None:
    given_, expected = (CASES["gru_step_conventions"][key] for key in ("input", "expected"))
    tensor = {key: torch.tensor([given_[key]], dtype=torch.float64) for key in ("x", "h")}
    w_x, w_h = (torch.cat([torch.tensor(given_[k][gate]).double().T for gate in "rzn"]) for k in ("Wx", "Wh"))
    bias = torch.cat([torch.tensor(given_["b"][gate]).double() for gate in "rzn"])
    names = {
        "theano": "official_theano (h'=(1-z)h+z n, reset before)",
        "torch": "torch.nn.GRUCell (h'=z h+(1-z) n, reset after)",
        "tf": "tf.contrib GRUCell (h'=z h+(1-z) n, reset before)",
    }
    for convention, name in names.items():
        close(plain.gru_step(tensor["x"] @ w_x.T + bias, tensor["h"], w_h, None, convention)[0], expected[name])


def test_the_torch_convention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    cell = nn.GRUCell(3, 4).double()
    x, hidden = torch.randn(5, 3).double(), torch.randn(5, 4).double()
    from_input = x @ cell.weight_ih.T + cell.bias_ih
    close(plain.gru_step(from_input, hidden, cell.weight_hh, cell.bias_hh, "torch"), cell(x, hidden))


def test_golden_initial_bounds() -> None:
    given_, expected = (CASES["init_bound"][key] for key in ("input", "expected"))
    close(plain.initial_bound(given_["n_items"], given_["hidden"]), expected["embedding_bound"])
    own = plain.Settings(given_["n_items"], layers=(given_["hidden"],))
    parameters = plain.initial_parameters(own, torch.Generator().manual_seed(0))
    for name, key in (("output", "embedding"), ("gru0.weight_ih", "recurrent"), ("gru0.weight_hh", "recurrent")):
        bound = expected[f"{key}_bound"]
        assert bound * 0.999 < float(parameters[name].abs().max()) <= bound * (1 + 1e-6)
        assert float(parameters[name].std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not any(parameters[name].any() for name in parameters if "bias" in name)


def test_a_width_of_the_distribution_for_all_matrices() -> None:
    for normal, spread in ((False, 0.25 / 3**0.5), (True, 0.25)):
        own = plain.Settings(2000, layers=(20,), sigma=0.25, init_as_normal=normal)
        parameters = plain.initial_parameters(own, torch.Generator().manual_seed(0))
        for name in ("output", "gru0.weight_ih"):
            assert float(parameters[name].std()) == pytest.approx(spread, rel=0.05)
            assert (float(parameters[name].abs().max()) > 0.2501) == normal


# ---- ranks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", ["standard", "conservative", "median"])
def test_golden_ranks(ties: plain.Ties) -> None:
    given_, expected = (CASES["rank_with_ties"][key] for key in ("input", "expected"))
    assert plain.rank_of(torch.tensor(given_["scores"]), given_["target_index"], ties) == expected[ties]


def test_golden_recall_and_mrr() -> None:
    given_, expected = (CASES["recall_mrr_at_20"][key] for key in ("input", "expected"))
    ranks = np.array(given_["ranks"], dtype=np.float64)
    close(plain.recall(ranks, given_["cutoff"]), expected["recall"])
    close(plain.mrr(ranks, given_["cutoff"]), expected["mrr"])
    close(plain.recall(ranks, given_["cutoff"] - 1), expected["legacy_off_by_one_recall (rank < 20)"])
    close(plain.mrr(ranks, given_["cutoff"] - 1), expected["legacy_off_by_one_mrr"])


def test_scores_that_are_no_numbers_have_no_rank() -> None:
    with pytest.raises(AssertionError):
        plain.rank_of(torch.tensor([0.0, float("nan")]), 1)


def test_every_event_after_the_first_is_ranked() -> None:
    """A network of zeros scores all items the same: the last place among 9, or the first."""
    own = small()
    zeros = {name: torch.zeros_like(value) for name, value in start(own).items()}
    sessions = [[1, 2, 3], [4], [5, 6]]
    assert plain.session_ranks(zeros, sessions, own).tolist() == [9, 9, 9]
    assert plain.evaluate(zeros, sessions, own, (20,), "standard") == {"recall@20": 1.0, "mrr@20": 1.0}
    zeros["output_bias"][2] = 1.0
    assert plain.session_ranks(zeros, sessions, own, "median").tolist() == [1, 5.5, 5.5]


# ---- optimisers -----------------------------------------------------------------------------------------------------


def test_golden_adagrad() -> None:
    given_, expected = (CASES["adagrad_momentum"][key] for key in ("input", "expected"))
    value = torch.tensor(given_["p0"]).double()
    velocity, total = torch.zeros_like(value), torch.zeros_like(value)
    for grad, after in zip(given_["grads"], expected["p_after_each_step"], strict=True):
        rest = given_["lr"], given_["momentum"], given_["eps"]
        value, velocity, total = plain.adagrad(value, torch.tensor(grad).double(), velocity, total, *rest)
        close(value, after)


def test_golden_learning_rate() -> None:
    given_, expected = (CASES["lr_schedule_legacy"][key] for key in ("input", "expected"))
    own = plain.legacy_settings(9)
    assert (own.lr, own.decay, own.decay_steps) == (given_["lr0"], given_["decay"], given_["decay_steps"])
    for step, rate in zip(given_["steps"], expected["lr"], strict=True):
        assert plain.learning_rate(own, step) == pytest.approx(rate, rel=1e-6)


def test_adam_is_that_of_torch() -> None:
    own = small(optimizer="adam", lr=0.01, decay=0.5, decay_steps=2)
    values, state = {"output": torch.ones(4, 2).double()}, plain.initial_state({"output": torch.ones(4, 2).double()})
    theirs = nn.Parameter(values["output"].clone())
    optimizer = torch.optim.Adam([theirs], lr=0.01)
    for step in range(5):
        theirs.grad = torch.randn(4, 2, generator=torch.Generator().manual_seed(step)).double()
        optimizer.param_groups[0]["lr"] = 0.01 * 0.5 ** (step // 2)
        optimizer.step()
        values, state = plain.apply_gradients(values, state, {"output": theirs.grad}, {}, own)
        close(values["output"], theirs.detach())


def test_rows_that_nobody_looked_up_stand_still() -> None:
    own = small(momentum=0.5)
    values = {"output": torch.ones(3, 2).double(), "gru0.bias_ih": torch.ones(2).double()}
    state, zero = plain.initial_state(values), {name: torch.zeros_like(value) for name, value in values.items()}
    grads = {name: torch.ones_like(value) for name, value in values.items()}
    first, state = plain.apply_gradients(values, state, grads, {"output": np.array([0, 2])}, own)
    assert (first["output"] == 1).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    second, state = plain.apply_gradients(first, state, zero, {"output": np.array([0])}, own)
    close(second["output"][0] - first["output"][0], 0.5 * (first["output"][0] - 1))  # velocity, without a gradient
    assert torch.equal(second["output"][1:], first["output"][1:])
    close(second["gru0.bias_ih"] - first["gru0.bias_ih"], 0.5 * (first["gru0.bias_ih"] - 1))
    assert state.second["output"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert state.step == 2


def test_gradients_are_clipped_by_the_norm_of_their_tensor() -> None:
    close(plain.clip(torch.tensor([3.0, 4.0]), 1.0), [0.6, 0.8])
    close(plain.clip(torch.tensor([3.0, 4.0]), 4.5), [2.7, 3.6])
    assert plain.clip(torch.tensor([3.0, 4.0]), 5.5).tolist() == [3, 4]
    assert plain.clip(torch.tensor([3.0, 4.0]), 0.0).tolist() == [3, 4]


# ---- updates --------------------------------------------------------------------------------------------------------


def small(**options: Any) -> plain.Settings:
    defaults = {"layers": (4,), "batch_size": 3, "num_samples": 2, "logq": 0.0, "dropout_hidden": 0.0, "epochs": 2}
    return plain.Settings(**{"num_items": 9, "dtype": torch.float64, **defaults, **options})


def start(own: plain.Settings) -> plain.Parameters:
    parameters = plain.initial_parameters(own, torch.Generator().manual_seed(1))
    noise = torch.Generator().manual_seed(2)
    return {name: value + 0.3 * torch.randn(value.shape, generator=noise) for name, value in parameters.items()}


SESSIONS = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 0], [1], [3, 2, 6, 1], [8, 7]]
EMBEDDINGS = [
    {"embedding": "constrained"},
    {"embedding": "separate", "embedding_dim": 3},
    {"embedding": "onehot"},
    {"embedding": "separate", "cell": "tf", "hidden_act": "relu"},
]


def test_parameters_by_name() -> None:
    def shapes(**options: Any) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in start(small(layers=(5, 4), **options)).items()}

    shared = {"output": (9, 4), "output_bias": (9,), "gru0.weight_hh": (15, 5), "gru0.bias_ih": (15,)}
    shared |= {"gru1.weight_ih": (12, 5), "gru1.weight_hh": (12, 4), "gru1.bias_ih": (12,), "gru1.bias_hh": (12,)}
    assert shapes() == {**shared, "gru0.weight_ih": (15, 4), "gru0.bias_hh": (15,)}
    own_table = {"input": (9, 3), "gru0.weight_ih": (15, 3), "gru0.bias_hh": (15,)}
    assert shapes(embedding="separate", embedding_dim=3) == shared | own_table
    assert shapes(embedding="onehot") == {**shared, "input": (9, 15)}


@pytest.mark.parametrize("layers", [(4,), (5, 4)])
@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=str)
@pytest.mark.parametrize("sessions", [SESSIONS, sorted(SESSIONS, key=len)], ids=["as they are", "short ones first"])
def test_side_by_side_sessions_do_not_meet(
    sessions: list[list[int]], embedding: dict[str, Any], layers: tuple[int, ...]
) -> None:
    """States along the schedule are those of each session alone: resets, slots and shrinking are in place."""
    own = small(layers=layers, **embedding)
    parameters, hidden = start(own), plain.zero_hidden(own)
    alone = [plain.session_states(parameters, session, own) for session in sessions]
    seen = [0] * len(sessions)
    for step in plain.schedule(sessions, own.batch_size, "official"):
        _, hidden = plain.step_loss(parameters, hidden, step, plain.Draws(), own)
        for slot, session in zip(step.slots, step.sessions, strict=True):
            close(hidden[-1][slot], alone[session][seen[session]])
            seen[session] += 1
    assert seen == [len(session) - 1 for session in sessions]


def run(own: plain.Settings, parameters: plain.Parameters, count: int = 6) -> plain.Updated:
    generator, cumulative = np.random.default_rng(3), np.arange(1, own.num_items + 1) / own.num_items
    state, hidden = plain.initial_state(parameters), plain.zero_hidden(own)
    support = plain.supports(SESSIONS, own.num_items)
    groups = plain.windows(plain.schedule(SESSIONS, own.batch_size, "official"), own.window)
    for group in itertools.islice(groups, count):
        draws = [plain.draw(step, own, cumulative, generator) for step in group]
        done = plain.update(parameters, state, hidden, group, draws, own, support)
        parameters, state, hidden = done.parameters, done.state, done.hidden
    return done


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=str)
def test_an_update_changes_nothing_that_it_was_given(embedding: dict[str, Any], window: int) -> None:
    own = small(**embedding, window=window, dropout_hidden=0.3)
    parameters = start(own)
    before = {name: value.clone() for name, value in parameters.items()}
    done = run(own, parameters, 1)
    assert all(torch.equal(parameters[name], before[name]) for name in before)
    assert not any(value.requires_grad for value in [*done.parameters.values(), *done.hidden])
    assert set(done.parameters) == set(before)
    moved = {name: (done.parameters[name] != before[name]) for name in before}
    assert all(changed.any() for name, changed in moved.items() if window > 1 or not name.endswith("weight_hh"))
    for table, rows in done.touched.items():
        changed = moved[table].reshape(own.num_items, -1).any(dim=1).nonzero()[:, 0]
        with_gradient = done.gradients[table].reshape(own.num_items, -1).any(dim=1).nonzero()[:, 0]
        assert set(changed.tolist()) == set(with_gradient.tolist()) <= set(rows.tolist())


def test_against_the_modules_of_torch() -> None:
    """Two layers, own input table, masks: nn.Embedding, nn.GRUCell and a hand-written Adagrad over the same steps."""
    own = small(embedding="separate", embedding_dim=3, layers=(5, 4), dropout_hidden=0.5, dropout_embed=0.25, lr=0.1)
    parameters = start(own)
    cells = nn.ModuleList([nn.GRUCell(3, 5), nn.GRUCell(5, 4)]).double()
    for layer, cell in enumerate(cells):
        cell.load_state_dict({key: parameters[f"gru{layer}.{key}"] for key in cell.state_dict()})
    tables = {name: nn.Parameter(parameters[name].clone()) for name in plain.TABLES}
    named = {**tables, **{f"gru{k}.{key}": p for k, cell in enumerate(cells) for key, p in cell.named_parameters()}}
    memory = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in named.items()}
    generator, cumulative = np.random.default_rng(0), np.arange(1, 10) / 9
    state, hidden = plain.initial_state(parameters), plain.zero_hidden(own)
    theirs: dict[int, list[Tensor]] = {}  # state of each session
    for step in plain.schedule(SESSIONS, 3, "official"):
        draw = plain.draw(step, own, cumulative, generator)
        done = plain.update(parameters, state, hidden, [step], [draw], own)
        parameters, state, hidden = done.parameters, done.state, done.hidden
        x = tables["input"][step.inputs] * draw.embed_mask
        assert draw.hidden_masks is not None
        kept = []
        for layer, cell in enumerate(cells):
            zeros = [torch.zeros(width).double() for width in own.layers]
            old = torch.stack([theirs.get(session, zeros)[layer] for session in step.sessions])
            x = cell(x, old) * draw.hidden_masks[layer]
            kept.append(x.detach())
        theirs |= {session: [layer[row] for layer in kept] for row, session in enumerate(step.sessions)}
        columns = step.targets + draw.negatives.tolist()
        scores = x @ tables["output"][columns].T + tables["output_bias"][columns]
        loss = nn.functional.cross_entropy(scores, torch.arange(len(step.targets)), reduction="sum") / 3
        for p in named.values():
            p.grad = None
        loss.backward()
        with torch.no_grad():
            for name, p in named.items():
                velocity, total = memory[name]
                live = torch.zeros(len(p), dtype=torch.bool)
                live[step.inputs if name == "input" else columns if name in tables else slice(None)] = True
                live = live.reshape(-1, *[1] * (p.dim() - 1))
                assert p.grad is not None
                total += p.grad**2
                velocity += live * (-0.8 * velocity - 0.1 * p.grad / (total + 1e-6).sqrt())
                p += live * velocity
                close(parameters[name], p)
        assert done.loss == pytest.approx(loss.item())


def test_a_window_of_one_is_the_plain_way_and_a_longer_one_sees_further() -> None:
    own = small(reset_after_session=True)
    steps = list(plain.schedule([[0, 1, 2], [3, 4, 5]], 2, "official"))
    assert len(steps) == 2
    parameters = start(own)
    state, hidden, draws = plain.initial_state(parameters), plain.zero_hidden(own), [plain.Draws(), plain.Draws()]
    rest = {"draws": draws, "settings": replace(own, window_reduction="sum")}
    together = plain.update(parameters, state, hidden, steps, **rest)
    parts = []
    for step in steps:
        one = plain.update(parameters, state, hidden, [step], [plain.Draws()], own)
        parts.append(one)
        hidden = one.hidden
    assert together.loss == pytest.approx(sum(part.loss for part in parts))
    summed = {name: parts[0].gradients[name] + parts[1].gradients[name] for name in parameters}
    close(together.gradients["output_bias"], summed["output_bias"])
    assert (together.gradients["gru0.weight_ih"] - summed["gru0.weight_ih"]).abs().max() > 1e-4
    mean = plain.update(parameters, state, plain.zero_hidden(own), steps, draws, own)
    close(mean.gradients["gru0.weight_ih"], together.gradients["gru0.weight_ih"] / 2)


def test_the_gradient_stops_where_a_session_begins() -> None:
    """Both windows hold two steps; between them every slot takes a new session: as if they were two of one step."""
    own = small(window_reduction="sum", embedding="separate")
    steps = list(plain.schedule([[0, 1], [2, 3], [4, 5], [6, 7]], 2, "official"))
    parameters, draws = start(own), [plain.Draws(), plain.Draws()]
    state, hidden = plain.initial_state(parameters), plain.zero_hidden(own)
    together = plain.update(parameters, state, hidden, steps, draws, own)
    parts = [plain.update(parameters, state, hidden, [step], [plain.Draws()], own) for step in steps]
    for name in parameters:
        close(together.gradients[name], sum(part.gradients[name] for part in parts))
    carried = plain.update(parameters, state, hidden, steps, draws, replace(own, reset_after_session=False))
    assert not torch.allclose(carried.gradients["gru0.weight_hh"], together.gradients["gru0.weight_hh"])
    assert not torch.allclose(carried.hidden[0], together.hidden[0])


def test_what_is_dropped_is_what_is_remembered() -> None:
    own = small(layers=(5, 4), embedding="separate")
    parameters, step = start(own), plain.Step([0, 1], [1, 2], [True, True], [2, 0], [0, 1])
    masks = torch.tensor([[0.0, 2, 2, 0, 2], [2, 0, 0, 2, 2]]), torch.tensor([[2.0, 0, 2, 0], [0, 2, 0, 2]])
    _, hidden = plain.step_loss(parameters, plain.zero_hidden(own), step, plain.Draws(hidden_masks=masks), own)
    for state, mask in zip(hidden, masks, strict=True):
        assert torch.equal(state[[2, 0]] != 0, mask != 0)
        assert not state[1].any()


def test_masks_and_negatives_are_drawn_as_they_should() -> None:
    generator = np.random.default_rng(0)
    mask = plain.draw_mask((200, 50), 0.4, generator, torch.float64)
    assert sorted(set(mask.flatten().tolist())) == [0, pytest.approx(1 / 0.6)]
    assert float(mask.mean()) == pytest.approx(1, abs=0.03)
    support = np.array([16.0, 0.0, 4.0, 1.0])
    cumulative = np.cumsum(support**0.5)
    ids = plain.draw_negatives(cumulative / cumulative[-1], 70_000, generator)
    assert np.bincount(ids, minlength=4) / 10_000 == pytest.approx([4, 0, 2, 1], abs=0.1)
    own = small(num_samples=7, layers=(5, 4), embedding="separate", dropout_embed=0.1, dropout_hidden=0.1)
    drawn = plain.draw(plain.Step([0, 1], [1, 2], [True] * 2, [0, 1], [0, 1]), own, np.arange(1, 10) / 9, generator)
    assert drawn.embed_mask is not None
    assert drawn.hidden_masks is not None
    assert (len(drawn.negatives), drawn.embed_mask.shape) == (7, (2, 5))
    assert [mask.shape for mask in drawn.hidden_masks] == [(2, 5), (2, 4)]


def test_items_without_events_are_never_drawn() -> None:
    class Edges(np.random.Generator):
        def random(self, *_: Any) -> Any:
            return np.array([0.0, 0.2, 0.25, 0.999999])

    cumulative = np.array([0.0, 0.25, 0.25, 0.99])
    assert plain.draw_negatives(cumulative, 4, Edges(np.random.PCG64())).tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"logq": 1.0, "dropout_hidden": 0.2},
        {"embedding": "separate", "window": 4},
        {"embedding": "onehot", "lr": 0.6},
        {"loss": "bpr_max", "final_act": "elu", "bpreg": 0.5},
        {"loss": "top1_max"},
        {"loss": "top1"},
        {"loss": "bpr"},
        {"num_samples": 0},
        {"optimizer": "adam", "lr": 0.04, "reduction": "legacy"},
    ],
    ids=str,
)
def test_it_learns_what_follows_what(options: dict[str, Any]) -> None:
    """Nine items in a ring, walked in both directions: only what came before tells where to go on."""
    forth = [[(at + i) % 9 for i in range(5)] for at in range(9)]
    sessions = [session for pair in zip(forth, [own[::-1] for own in forth], strict=True) for session in pair]
    own = small(**{"layers": (16,), "batch_size": 6, "num_samples": 8, "lr": 0.2, "epochs": 10, **options})
    losses: list[float] = []
    parameters = plain.train(sessions, own, 1, watch=lambda epoch, loss: losses.append(loss))
    ranks = plain.session_ranks(parameters, sessions, own).reshape(-1, 4)
    assert losses[-1] < losses[0]
    assert (ranks[:, 0] <= 2).mean() > 0.9  # one of the two neighbours
    assert (ranks[:, 1:] == 1).mean() > 0.85  # half of them without a memory


def test_a_seed_is_a_training() -> None:
    own = small(dropout_hidden=0.3, epochs=1)
    first, again, other = (plain.train(SESSIONS, own, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["output"], other["output"])


@settings(max_examples=20, deadline=None)
@given(sessions_of_distinct_items.filter(lambda sessions: sum(map(len, sessions)) > 0))
def test_fewer_sessions_than_slots_train(sessions: list[list[int]]) -> None:
    own = small(num_items=sum(map(len, sessions)), batch_size=50, epochs=1, layers=(2,))
    assert all(torch.isfinite(value).all() for value in plain.train(sessions, own, 0).values())
