"""DeepFM, FM and LR against the golden cases and against brute force over all pairs, in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from click_cases import FIELDS, SINGLE, bags, golden, gradients, random_batch, row_of, same, scattered, sizes
from torch import Tensor, nn
from torch.nn import functional

from recexp.config.settings import OptimSettings
from recexp.datasets.impressions import Field
from recexp.models.blocks import keep_float32
from recexp.models.deepfm import DeepFM
from recexp.models.fm import FM
from recexp.models.fm_terms import pair_products
from recexp.models.lr import LR
from recexp.models.valued_fields import ValuedFields
from recexp.problems.click import ClickBatch, ClickNetwork
from recexp.training.optimizers import make_optimizer

SMALL: dict[str, Any] = {"dim": 3, "hidden": [6, 4]}


def terms(valued: ValuedFields, batch: ClickBatch, fields: tuple[Field, ...], row: int) -> list[Tensor]:
    """Value times row of each dense number, then the summed rows of each field."""
    found = []
    if valued.dense is not None:
        found = [batch.dense[row, n] * valued.dense[n] for n in range(batch.dense.shape[1])]
    zero = torch.zeros(valued.tables.width, dtype=torch.float64)
    for number, ids in enumerate(bags(batch, fields, row)):
        found.append(sum((row_of(valued.tables, number, i) for i in ids), zero))
    return found


def first_and_vectors(network: nn.Module, batch: ClickBatch, fields: tuple[Field, ...], row: int) -> tuple[Any, Any]:
    both = terms(network.fields.values, batch, fields, row)
    if network.fields.linear is None:
        return [own[0] for own in both], [own[1:] for own in both]
    return [own[0] for own in terms(network.fields.linear, batch, fields, row)], both


def pairs_of(vectors: list[Tensor]) -> Tensor:
    """Products of all pairs, one by one, per factor."""
    zero = torch.zeros_like(vectors[0])
    return sum((one * other for one, other in itertools.combinations(vectors, 2)), zero)


def plain(network: DeepFM, batch: ClickBatch, fields: tuple[Field, ...], **options: Any) -> Tensor:
    logits = []
    for row in range(len(batch)):
        first, vectors = first_and_vectors(network, batch, fields, row)
        entered = list(vectors)
        if options.get("dense") == "linear":
            first = [*(batch.dense[row, n] * network.dense_weight[n, 0] for n in range(batch.dense.shape[1])), *first]
            entered.append(batch.dense[row])
        x = torch.cat(entered)
        added = options.get("combine", "sum") == "sum"
        for n, (weight, bias) in enumerate(zip(network.deep.weights, network.deep.biases, strict=True)):
            x = weight @ x + bias
            x = x if added and n + 1 == len(network.deep.weights) else functional.relu(x)
        if added:
            logit = sum(first) + pairs_of(vectors).sum() + x[0]
            logits.append(logit + network.bias[0] if options.get("bias") else logit)
            continue
        linear = torch.stack(first) if options.get("first_order", "vector") == "vector" else sum(first)[None]
        parts = torch.cat([linear, pairs_of(vectors), x])
        logits.append((network.projection.weights[0] @ parts + network.projection.biases[0])[0])
    return torch.stack(logits)


@pytest.mark.parametrize(
    ("fields", "num_dense", "options"),
    [
        (SINGLE, 2, {}),
        (FIELDS, 2, {"bias": True}),
        (FIELDS, 0, {}),
        (FIELDS, 2, {"dense": "linear"}),
        (SINGLE, 0, {"dense": "linear"}),
        (FIELDS, 2, {"combine": "projection"}),
        (SINGLE, 2, {"combine": "projection", "first_order": "scalar"}),
        (SINGLE, 2, {"combine": "projection", "dense": "linear"}),
        (FIELDS, 2, {"l2_linear": 0.1}),
    ],
)
def test_deepfm_against_brute_force(fields: tuple[Field, ...], num_dense: int, options: dict[str, Any]) -> None:
    network = scattered(DeepFM(sizes=sizes(fields, num_dense), **SMALL, **options))
    batch = random_batch(fields, num_dense)
    expected = plain(network, batch, fields, **options)
    same(network, network.logits(batch), expected)
    bce = functional.binary_cross_entropy_with_logits(expected, batch.label, reduction="none")
    same(network, network.loss(batch), bce)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(("fields", "num_dense"), [(SINGLE, 2), (FIELDS, 0)])
def test_fm_against_brute_force(fields: tuple[Field, ...], num_dense: int, separate: bool) -> None:
    network = scattered(FM(sizes=sizes(fields, num_dense), dim=3, l2_linear=0.1 * separate))
    assert (network.fields.linear is not None) == separate
    batch = random_batch(fields, num_dense)
    logits = []
    for row in range(len(batch)):
        first, vectors = first_and_vectors(network, batch, fields, row)
        logits.append(network.bias[0] + sum(first) + pairs_of(vectors).sum())
    same(network, network.logits(batch), torch.stack(logits))


@pytest.mark.parametrize(("fields", "num_dense"), [(SINGLE, 2), (FIELDS, 0)])
def test_lr_against_brute_force(fields: tuple[Field, ...], num_dense: int) -> None:
    network = scattered(LR(sizes=sizes(fields, num_dense)))
    batch = random_batch(fields, num_dense)
    rows = [network.bias[0] + sum(terms(network.fields, batch, fields, row))[0] for row in range(len(batch))]
    same(network, network.logits(batch), torch.stack(rows))


def test_golden_second_order() -> None:
    case = golden("deepfm")["fm_second_order"]
    v, x = (torch.tensor(case["input"][name], dtype=torch.float64) for name in ("v", "x"))
    products = pair_products((v * x[:, None])[None])[0]
    assert products.tolist() == pytest.approx(case["expected"]["per_factor"])
    assert float(products.sum()) == pytest.approx(case["expected"]["scalar"]) == case["expected"]["pairwise_check"]


@pytest.mark.parametrize("categories", [0, 1])
def test_golden_logit_and_loss(categories: int) -> None:
    """Three numbers with a row each; or two numbers, and the one that is 1 as a category."""
    case = golden("deepfm")["full_logit_and_loss"]
    given, expected = case["input"], case["expected"]
    order = [1, 2, 0] if categories else [0, 1, 2]
    value = lambda name: torch.tensor(given[name], dtype=torch.float64)  # noqa: E731
    fields = (Field("first", 1),) * categories
    network = DeepFM(sizes=sizes(fields, 3 - categories), dim=2, hidden=[2]).double()
    rows = torch.cat([value("w")[:, None], value("v")], dim=1)[order]
    with torch.no_grad():
        network.fields.values.dense.copy_(rows[: 3 - categories])
        network.fields.values.tables.table.copy_(rows[3 - categories :])
        first = value("W1").view(3, 2, 2)[order].reshape(6, 2)
        for own, weight in zip(network.deep.weights, (first, value("W2")), strict=True):
            own.copy_(weight.T)
        for own, bias in zip(network.deep.biases, (value("b1"), value("b2")), strict=True):
            own.copy_(bias)
    x = value("x")[order][None, : 3 - categories]
    batch = ClickBatch(torch.tensor([given["label"]]).double(), x, torch.zeros(1, categories, dtype=torch.int32))
    linear, vectors = network.fields(batch)
    assert float(linear.sum().detach()) == pytest.approx(expected["linear"])
    assert float(pair_products(vectors).sum().detach()) == pytest.approx(expected["fm"])
    assert float(network.deep(vectors.flatten(1)).detach()) == pytest.approx(expected["deep"])
    logit, bce = network.logits(batch), network.loss(batch).mean()
    assert float(logit.detach()) == pytest.approx(expected["logit"])
    assert float(logit.sigmoid().detach()) == pytest.approx(expected["prob"])
    assert float(bce.detach()) == pytest.approx(expected["bce"], rel=1e-6)
    penalty = sum(
        group.get("l2", 0) * p.square().sum() for group in network.parameter_groups() for p in group["params"]
    )
    assert float(penalty.detach()) == pytest.approx(expected["l2_term"])
    assert float((bce + penalty).detach()) == pytest.approx(expected["loss"])


def test_golden_parameter_count() -> None:
    case = golden("deepfm")["param_count"]
    each, rest = divmod(case["input"]["vocab"] - 13, 26)
    fields = [Field(f"C{n}", each + (n < rest)) for n in range(26)]
    with torch.device("meta"):
        network = DeepFM(sizes=sizes(fields, 13))
    assert sum(p.numel() for p in network.fields.parameters()) == case["expected"]["tables"]
    assert sum(p.numel() for p in network.deep.parameters()) == case["expected"]["mlp"]
    assert sum(p.numel() for p in network.parameters()) == case["expected"]["total"] == 18_867_222


def penalties(network: nn.Module) -> dict[str, tuple[float, str | None]]:
    """Factor and scope of every parameter that has a penalty, by its name; every parameter is in one group."""
    groups = network.parameter_groups()
    taken = [id(p) for group in groups for p in group["params"]]
    names = {id(p): name for name, p in network.named_parameters()}
    assert sorted(taken) == sorted(names)
    return {
        names[id(p)]: (group["l2"], group.get("l2_rows"))
        for group in groups
        if group.get("l2")
        for p in group["params"]
    }


def test_penalties() -> None:
    data = sizes(SINGLE, 2)
    tables, dense = "fields.values.tables.table", "fields.values.dense"
    assert penalties(DeepFM(sizes=data)) == {tables: (4e-5, None), dense: (4e-5, None)}
    options = {"combine": "projection", "l2_linear": 0.0, "l2_embedding": 0.2, "l2_deep": 0.4, "l2_scope": "batch"}
    assert penalties(DeepFM(sizes=data, **SMALL, **options)) == {
        tables: (0.1, "touched"),
        dense: (0.1, "touched"),
        "deep.weights.0": (0.2, None),
        "deep.weights.1": (0.2, None),
        "projection.weights.0": (0.2, None),
    }
    linear = penalties(DeepFM(sizes=data, **SMALL, dense="linear", l2_linear=0.2, l2_embedding=0.0))
    assert linear == {"fields.linear.tables.table": (0.1, None), "dense_weight": (0.1, None)}
    assert penalties(FM(sizes=data)) == {}
    assert penalties(FM(sizes=data, l2_linear=0.2, l2_embedding=0.2))[tables] == (0.1, None)
    lr = penalties(LR(sizes=data, l2=0.2, l2_scope="batch"))
    assert lr == {"fields.tables.table": (0.1, "touched"), "fields.dense": (0.1, "touched")}


@pytest.mark.parametrize(("scope", "rows"), [("full", "all"), ("batch", "touched")])
@pytest.mark.parametrize("make", [DeepFM, FM, LR])
def test_penalties_move_the_rows_that_they_say(make: Any, scope: str, rows: str) -> None:
    factor = {"l2": 0.4} if make is LR else {"l2_linear": 0.4, "l2_embedding": 0.4}
    deep = {"l2_deep": 0.2} if make is DeepFM else {}
    network = scattered(make(sizes=sizes(SINGLE, 2), **factor, **deep, l2_scope=scope))
    batch = random_batch(SINGLE, 2, rows=3)
    valued = network.fields if make is LR else network.fields.values
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    unpenalised = gradients(network, network.loss(batch).mean())
    settings = OptimSettings(name="sgd", lr=0.5, rows=rows)
    optimizer, _ = make_optimizer(settings, None, kernels="plain")(network.parameter_groups())
    optimizer.zero_grad()
    network.loss(batch).mean().backward()
    optimizer.step()
    looked_up = torch.zeros(len(valued.tables.table), dtype=torch.bool)
    looked_up[valued.tables.places(batch.ids).flatten()] = True
    assert 0 < looked_up.sum() < len(looked_up)
    for name, parameter in network.named_parameters():
        decay = 0.4 if name.startswith("fields") else 0.2 if "deep.weights" in name else 0.0
        moved = unpenalised[name] + decay * before[name]
        if name.endswith("table") and scope == "batch":
            moved[~looked_up] = 0
        torch.testing.assert_close(parameter.detach(), before[name] - 0.5 * moved, msg=lambda t, name=name: name + t)


def test_dropout_falls_on_the_terms_and_only_in_training() -> None:
    network = scattered(DeepFM(sizes=sizes(SINGLE, 2), **SMALL, dropout_fm=1.0, dropout_input=1.0))
    batch = random_batch(SINGLE, 2)
    with torch.no_grad():
        dropped = network.logits(batch)
        x = torch.zeros(len(batch), network.deep.weights[0].shape[1], dtype=torch.float64)
        torch.testing.assert_close(dropped, network.deep(x).squeeze(1))
        network.eval()
        torch.testing.assert_close(network.logits(batch), plain(network, batch, SINGLE))


def test_batch_normalisation_is_that_of_the_batch_and_later_its_running_mean() -> None:
    network = DeepFM(sizes=sizes(SINGLE, 2), **SMALL, batch_norm=True, init_deep_std=1.0).double()
    batch = random_batch(SINGLE, 2, rows=20)
    network.logits(batch)
    assert network.deep.norms[0].running_mean.abs().sum() > 0
    network.eval()
    alone = network.logits(ClickBatch(batch.label[:1], batch.dense[:1], batch.ids[:1]))
    torch.testing.assert_close(alone, network.logits(batch)[:1])
    assert "deep.norms.0.weight" in dict(network.named_parameters())
    penalties(network)


def test_no_parameter_is_without_use() -> None:
    """DistributedDataParallel waits for the gradient of each."""
    batch = random_batch(FIELDS, 2)
    choices = {"combine": ["sum", "projection"], "dense": ["field", "linear"], "bias": [False, True]}
    for values in itertools.product(*choices.values(), [0.0, 0.1], [False, True]):
        *words, l2_linear, norm = values
        options = dict(zip(choices, words, strict=True), l2_linear=l2_linear, batch_norm=norm)
        network = DeepFM(sizes=sizes(FIELDS, 2), **SMALL, **options).double()
        network.loss(batch).mean().backward()
        assert all(p.grad is not None for p in network.parameters()), options


def test_initial_values() -> None:
    torch.manual_seed(0)
    data = sizes((Field("a", 5000), Field("b", 3)), 2)
    network = DeepFM(sizes=data, hidden=[400, 300], init_std=0.02)
    assert float(network.fields.values.tables.table.detach().std()) == pytest.approx(0.02, rel=0.01)
    assert float(network.deep.weights[1].detach().std()) == pytest.approx(0.01, rel=0.02)
    assert float(network.deep.biases[0].detach().std()) == pytest.approx(0.01, rel=0.15)
    glorot = DeepFM(sizes=data, hidden=[400, 300], init_deep="glorot", combine="projection")
    assert float(glorot.deep.weights[1].detach().std()) == pytest.approx((2 / 700) ** 0.5, rel=0.02)
    assert not glorot.deep.biases[0].any()
    assert glorot.projection.biases[0].tolist() == pytest.approx([0.01])
    assert not LR(sizes=data).fields.tables.table.any()


@pytest.mark.parametrize("options", [{}, {"combine": "projection"}, {"dense": "linear"}])
@pytest.mark.parametrize("kept", [(), ("deep",)])
def test_mixed_precision_keeps_losses_and_tables_in_float32(kept: tuple[str, ...], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = DeepFM(sizes=sizes(FIELDS, 3), **SMALL, **options, init_deep="glorot", init_std=0.5)
    keep_float32(network, kept, ["deep"])
    batch = random_batch(FIELDS, 3)
    batch = ClickBatch(batch.label.float(), batch.dense.float(), batch.ids)
    exact = network.logits(batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits, losses = network.logits(batch), network.loss(batch)
    assert logits.dtype == losses.dtype == torch.float32
    assert torch.allclose(logits, exact, rtol=0, atol=1e-5) == bool(kept)
    losses.mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("make", [FM, LR])
def test_baselines_are_float32_throughout(make: Any) -> None:
    network = make(sizes=sizes(FIELDS, 3), init_std=0.5)
    batch = random_batch(FIELDS, 3)
    batch = ClickBatch(batch.label.float(), batch.dense.float(), batch.ids)
    exact = network.logits(batch)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network.logits(batch), exact)
        assert network.loss(batch).dtype == torch.float32


@pytest.mark.parametrize("make", [DeepFM, FM, LR])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_are_click_networks(make: Any, reduction: str) -> None:
    network = make(sizes=sizes(FIELDS, 3), reduction=reduction)
    assert isinstance(network, ClickNetwork)
    assert network.reduction == reduction
