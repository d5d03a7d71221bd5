"""DLRM against the golden cases and against one nn.EmbeddingBag a field with torch's own layers, in float64."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from click_cases import FIELDS, SINGLE, bags, golden, random_batch, row_of, same, scattered, sizes
from torch import Tensor, nn
from torch.nn import functional

from recexp.config.settings import OptimSettings
from recexp.datasets.impressions import Field
from recexp.errors import ConfigError
from recexp.models.blocks import keep_float32
from recexp.models.dlrm import DLRM
from recexp.models.interactions import interact, interaction_width
from recexp.problems.click import ClickBatch, ClickNetwork
from recexp.training.optimizers import make_optimizer

SMALL: dict[str, Any] = {"arch_sparse_feature_size": 4, "arch_mlp_bot": [5, 4], "arch_mlp_top": [6, 1]}


def plain(network: DLRM, batch: ClickBatch, fields: tuple[Field, ...], op: str, itself: bool) -> Tensor:
    """Log-odds row by row, pair by pair."""

    def layers(own: nn.Module, x: Tensor, last_relu: bool) -> Tensor:
        for n, (weight, bias) in enumerate(zip(own.weights, own.biases, strict=True)):
            x = weight @ x + bias
            x = functional.relu(x) if last_relu or n + 1 < len(own.weights) else x
        return x

    logits = []
    for row in range(len(batch)):
        vectors = [] if network.bottom is None else [layers(network.bottom, batch.dense[row], True)]
        width = network.tables.width
        for number, ids in enumerate(bags(batch, fields, row)):
            rows = [row_of(network.tables, number, i) for i in ids]
            if network.tables.weights is not None:
                start = row_of_weights(network, number)
                rows = [own * network.tables.weights[start + i] for own, i in zip(rows, ids, strict=True)]
            vectors.append(sum(rows, torch.zeros(width, dtype=torch.float64)))
        if op == "cat":
            entered = torch.cat(vectors)
        else:
            count = len(vectors)
            pairs = [vectors[i] @ vectors[j] for i in range(count) for j in range(i + itself)]
            entered = torch.cat([*([] if network.bottom is None else vectors[:1]), torch.stack(pairs)])
        logits.append(layers(network.top, entered, False)[0])
    return torch.stack(logits)


def row_of_weights(network: DLRM, field: int) -> int:
    return (0 if network.tables.single else 1) + sum(own.size for own in network.tables.fields[:field])


@pytest.mark.parametrize(
    ("fields", "num_dense", "options"),
    [
        (SINGLE, 3, {}),
        (FIELDS, 3, {"arch_interaction_itself": True}),
        (FIELDS, 3, {"arch_interaction_op": "cat"}),
        (FIELDS, 0, {}),
        (SINGLE, 0, {"arch_interaction_itself": True}),
        (SINGLE, 0, {"arch_interaction_op": "cat"}),
        (FIELDS, 2, {"weighted_pooling": "learned"}),
    ],
)
def test_against_loops(fields: tuple[Field, ...], num_dense: int, options: dict[str, Any]) -> None:
    network = scattered(DLRM(sizes=sizes(fields, num_dense), **SMALL, **options))
    batch = random_batch(fields, num_dense)
    op, itself = options.get("arch_interaction_op", "dot"), options.get("arch_interaction_itself", False)
    expected = plain(network, batch, fields, op, itself)
    same(network, network.logits(batch), expected)
    same(
        network,
        network.loss(batch),
        functional.binary_cross_entropy_with_logits(expected, batch.label, reduction="none"),
    )


def test_against_26_embedding_bags() -> None:
    fields = tuple(Field(f"C{n}", 3 + n) for n in range(26))
    network = scattered(DLRM(sizes=sizes(fields, 13)), scale=0.1)
    batch = random_batch(fields, 13, rows=32)
    modules = nn.ModuleList(nn.EmbeddingBag(field.size, 16, mode="sum").double() for field in fields)
    start = 0
    for field, module in zip(fields, modules, strict=True):
        module.weight.data.copy_(network.tables.table.data[start : start + field.size])
        start += field.size
    x = batch.dense
    for weight, bias in zip(network.bottom.weights, network.bottom.biases, strict=True):
        x = functional.relu(functional.linear(x, weight, bias))
    bagged = [module(batch.ids[:, [n]].long()) for n, module in enumerate(modules)]
    vectors = torch.stack([x, *bagged], dim=1)
    products = torch.bmm(vectors, vectors.transpose(1, 2))
    li, lj = zip(*[(i, j) for i in range(27) for j in range(i)], strict=True)
    hidden = torch.cat([x, products[:, li, lj]], dim=1)
    for n, (weight, bias) in enumerate(zip(network.top.weights, network.top.biases, strict=True)):
        hidden = functional.linear(hidden, weight, bias)
        hidden = functional.relu(hidden) if n < 2 else hidden
    expected = hidden.squeeze(1)
    found = network.logits(batch)
    torch.testing.assert_close(found, expected)
    network.loss(batch).mean().backward()
    own = network.tables.table.grad.clone()
    functional.binary_cross_entropy_with_logits(expected, batch.label).backward()
    torch.testing.assert_close(own, torch.cat([module.weight.grad for module in modules]))


def test_golden_interaction() -> None:
    case = golden("dlrm")["dot_interaction_3_vectors"]
    x, e1, e2 = (torch.tensor([case["input"][name]], dtype=torch.float64) for name in ("x", "e1", "e2"))
    fields = torch.stack([e1, e2], dim=1)
    for name, op, itself in (("R", "dot", False), ("R_itself", "dot", True), ("cat", "cat", False)):
        assert interact(x, fields, op=op, itself=itself)[0].tolist() == pytest.approx(case["expected"][name])


def test_golden_widths() -> None:
    case = golden("dlrm")["top_mlp_input_width"]
    for number, dim in enumerate(case["input"]["d"]):
        for name, op, itself in (("dot", "dot", False), ("dot_itself", "dot", True), ("cat", "cat", False)):
            width = interaction_width(case["input"]["n_sparse"], dim, has_dense=True, op=op, itself=itself)
            assert width == case["expected"][name][number]


def test_golden_parameter_counts_of_kaggle() -> None:
    expected = golden("dlrm")["kaggle_table_sizes"]["expected"]
    fields = [Field(f"C{n}", count) for n, count in enumerate(expected["counts"])]
    with torch.device("meta"):
        network = DLRM(sizes=sizes(fields, 13), arch_mlp_bot="13-512-256-64-16", arch_mlp_top="512-256-1")
    assert len(network.tables.table) == expected["total_rows"]
    assert network.tables.table.numel() == expected["embedding_params_d16"] == 540_201_232
    assert sum(p.numel() for p in network.parameters()) - network.tables.table.numel() == expected["mlp_params"]


def readme_model(case: dict[str, Any]) -> DLRM:
    """The upstream README's debug run, with the parameters that it printed."""
    given = case["input"]
    fields = [Field(f"table {n}", len(rows), slots=3) for n, rows in enumerate(given["emb"])]
    network = DLRM(
        sizes=sizes(fields, 4), arch_sparse_feature_size=2, arch_mlp_bot="4-3-2", arch_mlp_top="4-2-1", loss="mse"
    ).double()
    with torch.no_grad():
        network.tables.table.copy_(torch.tensor([[0.0, 0.0], *itertools.chain(*given["emb"])], dtype=torch.float64))
        for name, layers in (("bot", network.bottom), ("top", network.top)):
            for n in range(len(layers.weights)):
                layers.weights[n].copy_(torch.tensor(given[f"{name}_w{n + 1}"], dtype=torch.float64))
                layers.biases[n].copy_(torch.tensor(given[f"{name}_b{n + 1}"], dtype=torch.float64))
    return network


def readme_batch(batch: dict[str, Any]) -> ClickBatch:
    ids = [
        [i for bag in own for i in [*bag, *[-1] * (3 - len(bag))]]
        for own in zip(*batch["sparse_lists_per_table"], strict=True)
    ]
    dense, target = (torch.tensor(batch[name], dtype=torch.float64) for name in ("dense", "target"))
    return ClickBatch(target, dense, torch.tensor(ids, dtype=torch.int32))


@pytest.mark.parametrize("rows", ["all", "touched"])
def test_golden_readme_model(rows: str) -> None:
    case = golden("dlrm")["readme_tiny_model"]
    network, expected = readme_model(case), case["expected"]
    settings = OptimSettings(name="sgd", lr=case["input"]["lr"], rows=rows)
    optimizer, _ = make_optimizer(settings, None, kernels="plain")(network.parameter_groups())
    losses = []
    for number, batch in enumerate(map(readme_batch, case["input"]["batches"])):
        if number == 0:
            bottom = network.bottom(batch.dense)
            torch.testing.assert_close(bottom, torch.tensor(expected["bottom_out_batch0"], dtype=torch.float64))
            entered = interact(bottom, network.tables(batch.ids), op="dot", itself=False)
            torch.testing.assert_close(entered, torch.tensor(expected["top_in_batch0"], dtype=torch.float64))
            assert network.logits(batch).sigmoid().tolist() == pytest.approx(expected["pred_batch0"], abs=1e-9)
        optimizer.zero_grad()
        loss = network.loss(batch).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == pytest.approx(expected["losses_before_each_step"], abs=1e-8)
    assert losses == pytest.approx(expected["losses_printed_upstream"], abs=case["tolerance"]["atol"])
    after = network.tables.rows_of(0)
    torch.testing.assert_close(after, torch.tensor(expected["emb0_after_3_steps"], dtype=torch.float64))
    printed = torch.tensor(expected["emb0_after_printed_upstream"], dtype=torch.float64)
    torch.testing.assert_close(after, printed, rtol=0, atol=case["tolerance"]["atol"])
    last = torch.tensor(expected["top_w3_after_3_steps"], dtype=torch.float64)
    torch.testing.assert_close(network.top.weights[2].detach(), last)


def test_clamped_probabilities_are_those_that_are_evaluated() -> None:
    network = scattered(DLRM(sizes=sizes(SINGLE, 3), **SMALL, loss="mse", loss_threshold=0.3), scale=0.7)
    batch = random_batch(SINGLE, 3, rows=40)
    p = torch.sigmoid(plain(network, batch, SINGLE, "dot", False)).clamp(0.3, 0.7)
    assert bool((p == 0.3).any())
    assert bool(((p > 0.3) & (p < 0.7)).any())
    torch.testing.assert_close(network.logits(batch).sigmoid(), p)
    same(network, network.loss(batch), (p - batch.label).square())


def test_weights_of_classes() -> None:
    batch = random_batch(SINGLE, 3)
    one = scattered(DLRM(sizes=sizes(SINGLE, 3), **SMALL))
    other = scattered(DLRM(sizes=sizes(SINGLE, 3), **SMALL, loss="wbce", loss_weights="0.5-2"))
    factor = torch.tensor([0.5, 2.0], dtype=torch.float64)[batch.label.long()]
    torch.testing.assert_close(other.loss(batch), factor * one.loss(batch))


@pytest.mark.parametrize("embedding", ["qr", "mixed_dim"])
def test_compressed_embeddings_stand_in_for_the_tables(embedding: str) -> None:
    network = scattered(DLRM(sizes=sizes(FIELDS, 3), **SMALL, embedding=embedding, qr_operation="concat"))
    batch = random_batch(FIELDS, 3)
    vectors = torch.cat([network.bottom(batch.dense)[:, None], network.tables(batch.ids)], dim=1)
    products = vectors @ vectors.transpose(1, 2)
    pairs = torch.stack([products[:, i, j] for i in range(5) for j in range(i)], dim=1)
    expected = network.top(torch.cat([vectors[:, 0], pairs], dim=1)).squeeze(1)
    torch.testing.assert_close(network.logits(batch), expected)
    assert all(p.grad is None or p.grad.abs().sum() > 0 for p in network.parameters())


def test_order_of_draws() -> None:
    """Embeddings field by field, then the bottom, then the top layers; weights before biases."""
    torch.manual_seed(7)
    network = DLRM(sizes=sizes(SINGLE, 3), **SMALL)
    torch.manual_seed(7)
    for number, field in enumerate(SINGLE):
        drawn = torch.empty(field.size, 4).uniform_(-((1 / field.size) ** 0.5), (1 / field.size) ** 0.5)
        assert torch.equal(network.tables.rows_of(number), drawn)
    for layers, widths in ((network.bottom, [3, 5, 4]), (network.top, [14, 6, 1])):
        for n, (into, out) in enumerate(itertools.pairwise(widths)):
            assert torch.equal(layers.weights[n], torch.empty(out, into).normal_(0, (2 / (into + out)) ** 0.5))
            assert torch.equal(layers.biases[n], torch.empty(out).normal_(0, (1 / out) ** 0.5))


def test_every_mistake_is_told_at_once_with_its_arithmetic() -> None:
    with pytest.raises(ConfigError) as caught:
        DLRM(
            sizes=sizes(SINGLE, 13), arch_mlp_bot="12-512-15", arch_mlp_top=[512, 2], loss_weights="1-2-3",
            arch_sparse_feature_size=17, embedding="qr", qr_operation="concat",
        )  # fmt: skip
    text = str(caught.value)
    for words in (
        "begins with 12, but the data has 13 dense numbers. Write 13-512-15",
        "ends with 15",
        "arch_sparse_feature_size=17",
        "arch_mlp_top=[512,2]: ends with 2",
        "loss_weights=1-2-3: two numbers",
        "one half of the width",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arch_mlp_bot": "13-5x-16"}, "whole numbers from 1, [512,256] or joined by dashes"),
        ({"arch_mlp_bot": "13-0-16"}, "whole numbers from 1"),
        ({"arch_mlp_bot": [13, 512, 16]}, "Leave the 13 out, or write 13-13-512-16"),
        ({"arch_mlp_bot": "13"}, "has an input and no layer. Write 13-16"),
        ({"arch_mlp_top": ""}, "whole numbers from 1"),
        ({"arch_mlp_top": []}, "whole numbers from 1"),
        ({"arch_mlp_top": "367-512-256"}, "their input (26 wide) is known"),
        ({"loss_weights": [1.0]}, "two numbers are needed"),
        ({"loss_weights": "a-b"}, "two numbers are needed"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        DLRM(sizes=sizes(SINGLE, 13), **options)


def test_data_without_dense_numbers() -> None:
    with pytest.raises(ConfigError, match="no dense numbers"):
        DLRM(sizes=sizes(SINGLE, 0), arch_mlp_bot="13-512-16")
    network = DLRM(sizes=sizes(SINGLE, 0))
    assert network.bottom is None
    assert network.top.weights[0].shape[1] == 4 * 3 // 2


def test_lists_and_dashes_say_the_same() -> None:
    torch.manual_seed(0)
    one = DLRM(sizes=sizes(SINGLE, 13), arch_mlp_bot="13-32-16", arch_mlp_top="8-1")
    torch.manual_seed(0)
    other = DLRM(sizes=sizes(SINGLE, 13), arch_mlp_bot=[32, 16], arch_mlp_top=[8, 1])
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kept", [(), ("bottom", "interaction", "top")])
@pytest.mark.parametrize("num_dense", [3, 0])
def test_mixed_precision_keeps_losses_and_tables_in_float32(num_dense: int, kept: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    network = DLRM(sizes=sizes(FIELDS, num_dense), **SMALL)
    keep_float32(network, kept, ["bottom", "interaction", "top"])
    batch = random_batch(FIELDS, num_dense)
    batch = ClickBatch(batch.label.float(), batch.dense.float(), batch.ids)
    exact = network.logits(batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits, losses = network.logits(batch), network.loss(batch)
    assert logits.dtype == losses.dtype == torch.float32
    assert torch.allclose(logits, exact, rtol=0, atol=1e-6) == bool(kept)
    losses.mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in network.parameters())


def test_is_a_click_network() -> None:
    network = DLRM(sizes=sizes(SINGLE, 3), **SMALL, weighted_pooling="fixed")
    assert isinstance(network, ClickNetwork)
    groups = network.parameter_groups()
    trained = [id(p) for group in groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    assert [group["l2"] for group in groups] == [0.0, 0.0]


def test_the_penalty_is_on_the_tables_alone() -> None:
    network = DLRM(sizes=sizes(SINGLE, 3), **SMALL, l2_embedding=0.02, l2_scope="batch")
    tables, layers = network.parameter_groups()
    assert [id(p) for p in tables["params"]] == [id(p) for p in network.tables.parameters()]
    assert (tables["l2"], tables["l2_rows"], layers["l2"]) == (0.01, "touched", 0.0)
    assert "l2_rows" not in DLRM(sizes=sizes(SINGLE, 3), **SMALL, l2_embedding=0.02).parameter_groups()[0]


def test_dropout_is_of_the_top_layers_in_training_and_leaves_the_last_one() -> None:
    torch.manual_seed(1)
    network = DLRM(sizes=sizes(SINGLE, 3), **SMALL, dropout_top=0.5)
    batch = random_batch(SINGLE, 3)
    batch = ClickBatch(batch.label.float(), batch.dense.float(), batch.ids)
    assert not torch.equal(network.logits(batch), network.logits(batch))
    network.eval()
    plain = DLRM(sizes=sizes(SINGLE, 3), **SMALL)
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network.logits(batch), plain.logits(batch))
    assert network.top.dropout == 0.5
    assert network.bottom.dropout == 0.0


def test_batch_normalisation_stands_before_each_relu() -> None:
    network = DLRM(sizes=sizes(SINGLE, 3), **SMALL, batch_norm=True)
    assert len(network.bottom.norms) == len(network.bottom.weights)
    assert len(network.top.norms) == len(network.top.weights) - 1
