"""AttRec against the hand-computed cases, and its fast forms against its plain ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recexp.models import attrec as attrec_file
from recexp.models.attention_pool import attention_mean, fused_attention_mean
from recexp.models.attrec import AttRec, clip_to_unit_ball, interleaved_positions, timing_positions
from recexp.models.tables import table_rows
from recexp.problems.next_item import NextItemBatch


def close(actual: Tensor, expected: object) -> None:
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_golden_positions(golden: dict[str, dict]) -> None:
    close(interleaved_positions(3, 2), golden["position_encoding_interleaved"]["expected"]["pe"])
    variants = golden["position_encoding_variants_d4"]["expected"]
    close(interleaved_positions(3, 4), variants["interleaved"])
    close(timing_positions(3, 4), variants["timing_signal_concat"])


@pytest.mark.parametrize(("name", "mask"), [("reference", "reference"), ("author_code", "author")])
def test_golden_attention(golden: dict[str, dict], name: str, mask: str) -> None:
    case = golden[f"self_attention_{name}"]
    items = torch.tensor(case["input"]["item_embedding"])
    sequence, weight = torch.tensor([case["input"]["sequence"]]), torch.tensor(case["input"]["W_shared"])
    positions = interleaved_positions(3, 2)
    mean = attention_mean(items[sequence], positions, weight, weight, sequence > 0, mask=mask, average="all")
    close(mean[0], case["expected"]["m"])
    if mask == "reference":
        close(fused_attention_mean(items, sequence, positions, weight, sequence > 0)[0], case["expected"]["m"])


def golden_network(case: dict, **options: object) -> tuple[AttRec, Tensor, Tensor]:
    inputs = case["input"]
    network = AttRec(num_users=1, num_items=3, dim=2, max_len=3, long_term_weight=inputs["w"], **options)
    with torch.no_grad():
        network.item_short.copy_(torch.tensor(inputs["item_embedding_X"]))
        network.item_long.copy_(torch.tensor(inputs["item_embedding_V"]))
        network.user_long[1] = torch.tensor(inputs["u"])
    return network, torch.tensor([inputs["m"]]), torch.tensor([[inputs["pos"], inputs["neg"]]])


@pytest.mark.parametrize(("mode", "names"), [("inner", ("score_pos", "score_neg")), ("dist", ("dist_pos", "dist_neg"))])
def test_golden_scores_and_losses(golden: dict[str, dict], mode: str, names: tuple[str, str]) -> None:
    case = golden[f"score_{mode}"]
    expected = case["expected"]
    network, mean, items = golden_network(case, mode=mode)
    score = network.scores(network.user_long[[1]], mean, network.item_long[items], network.item_short[items])
    close(score[0], [expected[name] for name in names])
    network.short_term = lambda history: mean  # type: ignore[method-assign]
    batch = NextItemBatch(torch.tensor([1]), torch.tensor([[0, 1, 2]]), items[:, :1], items[:, 1:, None])
    close(network.loss(batch)[0], expected["bpr_loss" if mode == "inner" else "hinge"])
    ranked = network.catalogue_scores(torch.tensor([1]), torch.tensor([[0, 1, 2]]))[0]
    # The positive is better in both modes; ranking by the distance itself would be the known bug.
    assert ranked[items[0, 0]] > ranked[items[0, 1]]
    if mode == "dist":
        close(clip_to_unit_ball(network.item_long[3]), expected["clipped_v_pos"])
        close(clip_to_unit_ball(network.item_short[3]), expected["clipped_x_pos"])


def test_golden_parameter_count(golden: dict[str, dict]) -> None:
    case = golden["parameter_count_ml1m"]
    network = AttRec(num_users=case["input"]["n_user"] - 1, num_items=case["input"]["n_item"] - 1, dim=100)
    assert sum(p.numel() for p in network.parameters()) == case["expected"]["total"]


def random_batch(rows: int = 64, targets: int = 1, negatives: int = 1, seed: int = 0) -> NextItemBatch:
    draw = torch.Generator().manual_seed(seed)
    history = torch.randint(0, 30, (rows, 5), generator=draw)
    history[:, -1].clamp_(min=1)
    return NextItemBatch(
        torch.randint(1, 11, (rows,), generator=draw),
        history,
        torch.randint(1, 31, (rows, targets), generator=draw),
        torch.randint(1, 31, (rows, targets, negatives), generator=draw),
    )


def gradients(network: AttRec, batch: NextItemBatch) -> list[Tensor]:
    network.zero_grad(set_to_none=True)
    network.loss(batch).mean().backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("mode", ["inner", "dist"])
def test_fast_forms_equal_plain_operations(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, batch = AttRec(num_users=10, num_items=30, dim=16, init_std=0.5, mode=mode), random_batch()
    fast_loss, fast = network.loss(batch), gradients(network, batch)

    def plain_attention(rows: Tensor, index: Tensor, position: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
        return attention_mean(rows[index], position, weight, weight, valid, mask="reference", average="all")

    def plain_rows(table: Tensor, ids: Tensor, *, padded: bool) -> Tensor:
        return functional.embedding(ids, table, padding_idx=0 if padded else None)

    monkeypatch.setattr(attrec_file, "fused_attention_mean", plain_attention)
    monkeypatch.setattr(attrec_file, "table_rows", plain_rows)
    torch.testing.assert_close(fast_loss, network.loss(batch))
    for one, other in zip(fast, gradients(network, batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_rows_of_a_table_add_up_over_calls() -> None:
    table = torch.nn.Parameter(torch.randn(5, 3))
    for _ in range(2):
        table_rows(table, torch.tensor([[1, 1, 0]]), padded=True).sum().backward()
    assert table.grad is not None
    torch.testing.assert_close(table.grad, torch.tensor([[0.0], [4], [0], [0], [0]]).expand(5, 3))


@pytest.mark.parametrize("average", ["all", "valid"])
@pytest.mark.parametrize("mask", ["reference", "paper", "author", "scaled"])
def test_attention_variants_against_loops(mask: str, average: str) -> None:
    draw = torch.Generator().manual_seed(1)
    history, query, key = (torch.randn(s, generator=draw, dtype=torch.float64) for s in ((4, 5, 6), (6, 6), (6, 6)))
    valid = torch.tensor([[0, 0, 0, 0, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
    positions = interleaved_positions(5, 6).double()
    actual = attention_mean(history, positions, query, key, valid, mask=mask, average=average)
    for row in range(4):
        located = history[row] + positions
        q, k = (located @ query).relu(), (located @ key).relu()
        outputs = []
        for i in range(5):
            logits = {j: float(q[i] @ k[j]) / 6**0.5 for j in range(5)}
            if mask == "scaled":
                logits[i] = 0.0
            keys = [
                j for j in range(5) if mask in ("author", "scaled") or (valid[row, j] and (mask != "paper" or i != j))
            ]
            total = sum(torch.exp(torch.tensor(logits[j])) for j in keys)
            weights = {j: torch.exp(torch.tensor(logits[j])) / total for j in keys}
            if mask == "author":
                weights[i] = torch.tensor(0.0)
            outputs.append(sum((w * history[row, j] for j, w in weights.items()), torch.zeros(6)))
        used = [o for i, o in enumerate(outputs) if average == "all" or valid[row, i]]
        torch.testing.assert_close(actual[row], torch.stack(used).mean(0).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["inner", "dist"])
def test_catalogue_scores_rank_as_the_pairwise_scores(mode: str) -> None:
    torch.manual_seed(3)
    network, batch = AttRec(num_users=10, num_items=30, dim=8, init_std=0.7, mode=mode).double(), random_batch(8)
    items = torch.arange(31).expand(8, 31)
    mean = network.short_term(batch.history)
    pairwise = network.scores(network.user_long[batch.user], mean, network.item_long[items], network.item_short[items])
    full = network.catalogue_scores(batch.user, batch.history)
    assert torch.equal((pairwise if mode == "inner" else -pairwise)[:, 1:].argsort(1), full[:, 1:].argsort(1))


def test_several_targets_and_negatives_against_loops() -> None:
    torch.manual_seed(4)
    network = AttRec(num_users=10, num_items=30, dim=8, init_std=0.7, targets=3, mode="dist", reduction="mean")
    batch = random_batch(6, targets=3, negatives=2)
    batch.target[0, 1:] = 0
    mean = network.short_term(batch.history)

    def distance(row: int, item: Tensor) -> Tensor:
        u, v, x = (
            clip_to_unit_ball(t)
            for t in (network.user_long[batch.user[row]], network.item_long[item], network.item_short[item])
        )
        return 0.5 * (u - v).square().sum() + 0.5 * (mean[row] - x).square().sum()

    for row, loss in enumerate(network.loss(batch)):
        pairs = [
            (distance(row, batch.target[row, t]) - distance(row, batch.negative[row, t, n]) + 0.5).clamp(min=0)
            for t, n in itertools.product(range(3), range(2))
            if batch.target[row, t] > 0
        ]
        torch.testing.assert_close(loss, torch.stack(pairs).mean())


def test_padding_gets_no_gradient_and_stays_zero() -> None:
    network = AttRec(num_users=10, num_items=30, dim=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(3):
        optimizer.zero_grad()
        network.loss(random_batch(seed=seed)).mean().backward()
        optimizer.step()
    assert not network.item_short[0].any()
    assert not network.item_long[0].any()
