"""NGNN against the dense form with a node for every category."""

from __future__ import annotations

from typing import Any

import dense_ngnn
import pytest
import torch
from outfit_batches import Wardrobe, batch_of, random_rows, wardrobe
from torch import Tensor

from recexp.config.settings import OptimSettings
from recexp.errors import ConfigError
from recexp.models import kernels
from recexp.models.blocks import keep_float32
from recexp.models.ngnn import NGNN
from recexp.problems.outfit import OutfitNetwork, OutfitSizes
from recexp.training.optimizers import assert_penalties, make_optimizer

BOTH = ("image", "text")
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


def made(sizes: OutfitSizes, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> NGNN:
    """Small, with parameters that are large enough for every term to matter."""
    torch.manual_seed(seed)
    network = NGNN(sizes=sizes, **{"hidden_image": 3, "hidden_text": 3, "hidden_category": 3, **options})
    for graph in network.graphs.values():
        for name, parameter in graph.named_parameters():
            torch.nn.init.normal_(parameter, std=0.4 if name == "w_in" else 1.2 / graph.hidden**0.5)
    return network.to(dtype)


def dense_parameters(network: NGNN) -> dict[str, dict[str, Tensor]]:
    """Leaves of their own, in the shapes of ``dense_ngnn``."""
    found: dict[str, dict[str, Tensor]] = {}
    for modality, graph in network.graphs.items():
        own = {name: value.detach().double().clone() for name, value in graph.named_parameters()}
        own["w_in"] = own["w_in"].view(network.num_categories, -1, graph.hidden)
        for name in ("w_out", "w_msg"):
            own[name] = own[name].view(-1, graph.hidden, graph.hidden)
        found[modality] = {name: value.requires_grad_() for name, value in own.items()}
    return found


def dense_scores(network: NGNN, parameters: Any, closet: Wardrobe, items: list[int]) -> dict[str, Tensor]:
    categories = [int(closet.category[item]) for item in items]
    edges = dense_ngnn.adjacency(categories, network.edges, closet.cooccurrence.double())
    present = torch.zeros(network.num_categories, dtype=torch.float64)
    present[categories] = 1.0
    return {
        name: dense_ngnn.outfit_score(own, closet.dense(items, name), edges, present, network.steps)
        for name, own in parameters.items()
    }


def dense_loss(network: NGNN, parameters: Any, closet: Wardrobe, row: list[list[int]]) -> Tensor:
    real, other = (dense_ngnn.fused(dense_scores(network, parameters, closet, own), network.beta) for own in row)
    loss = dense_ngnn.pair_loss(real, other, network.pair_loss)
    kind = network.consistency
    if kind == "none" or "image" not in parameters or (kind == "paper" and "text" not in parameters):
        return loss
    image = tuple(dense_ngnn.project(parameters["image"], closet.dense(own, "image")) for own in row)
    text = (
        dense_ngnn.project(parameters["text"], closet.dense(row[0], "text")) if "text" in parameters else image[0] * 0
    )
    present = torch.zeros(network.num_categories)
    present[closet.category[row[0]]] = 1.0
    term = dense_ngnn.consistency(kind, network.consistency_mean, present, (image[0], image[1]), text)
    return loss + network.consistency_weight * term


OPTIONS: list[dict[str, Any]] = [
    {},
    {"edges": "mean"},
    {"edges": "cooccurrence"},
    {"loss": "neg_sigmoid", "consistency": "reference_bug"},
    {"loss": "neg_sigmoid", "consistency_mean": "all", "beta": 0.7},
    {"consistency": "none", "steps": 1},
    {"steps": 0},
    {"hidden_image": 12, "hidden_text": 12},
    {"consistency": "none", "hidden_text": 4, "edges": "cooccurrence", "loss": "neg_sigmoid"},
]
CASES = [
    *((BOTH, options) for options in OPTIONS),
    (("image",), {}),
    (("image",), {"consistency": "reference_bug", "edges": "mean"}),
    (("text",), {"edges": "cooccurrence"}),
    (("text",), {"consistency": "reference_bug"}),
    (("category",), {}),
    (("category",), {"edges": "cooccurrence", "hidden_category": 5}),
]


@pytest.mark.parametrize(("modalities", "options"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_losses_and_gradients_are_those_of_the_dense_form(
    modalities: tuple[str, ...], options: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    closet = wardrobe(dtype=dtype)
    network = made(closet.only(*modalities), dtype, **options)
    rows = random_rows(closet, 9)
    batch = batch_of(closet, rows, modalities)
    losses = network.loss(batch)
    weights = torch.linspace(0.5, 1.5, len(rows), dtype=torch.float64)
    (losses * weights).sum().backward()

    parameters = dense_parameters(network)
    expected = torch.stack([dense_loss(network, parameters, closet, row) for row in rows])
    (expected * weights).sum().backward()
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)
    for modality, own in parameters.items():
        for name, value in own.items():
            found = getattr(network.graphs[modality], name).grad
            exact = torch.zeros_like(value) if value.grad is None else value.grad
            exact = exact.reshape(getattr(network.graphs[modality], name).shape)
            found = torch.zeros_like(exact) if found is None else found.double()
            torch.testing.assert_close(found, exact, rtol=0, atol=tolerance * max(1.0, float(exact.abs().max())))


@pytest.mark.parametrize("edges", ["complete", "mean", "cooccurrence"])
@pytest.mark.parametrize(("outfits", "hidden"), [(1, 3), (4, 3), (1, 12), (1, 16), (2, 13), (3, 12)])
def test_scores_of_any_number_of_outfits_are_those_of_the_dense_form(edges: str, outfits: int, hidden: int) -> None:
    closet = wardrobe(seed=1)
    network = made(closet.sizes, torch.float32, edges=edges, hidden_image=hidden, hidden_text=hidden)
    rows = random_rows(closet, 7, outfits=outfits, seed=3)
    batch = batch_of(closet, rows)
    with torch.no_grad():
        projected = network.project(batch.items)
        found = network.modality_scores(projected, batch.outfits)
        both = network.scores(projected, batch.outfits)
    parameters = dense_parameters(network)
    for r, row in enumerate(rows):
        for k, items in enumerate(row):
            exact = dense_scores(network, parameters, closet, items)
            for name, value in exact.items():
                torch.testing.assert_close(found[name][r, k].double(), value, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(both[r, k].double(), dense_ngnn.fused(exact, 0.2), rtol=1e-5, atol=1e-5)
    assert both.shape == (7, outfits)
    assert both.dtype == torch.float32


@pytest.mark.parametrize("edges", ["complete", "mean", "cooccurrence"])
def test_padding_and_the_order_of_nodes_change_nothing(edges: str) -> None:
    closet = wardrobe(seed=2, dtype=torch.float64)
    network = made(closet.sizes, edges=edges, consistency="reference_bug")
    rows = random_rows(closet, 6)
    first = network.loss(batch_of(closet, rows, padding=0))
    wider = network.loss(batch_of(closet, rows, padding=5))
    turned = network.loss(batch_of(closet, [[list(reversed(own)) for own in row] for row in rows]))
    alone = torch.cat([network.loss(batch_of(closet, [row])) for row in rows])
    for other in (wider, turned, alone):
        torch.testing.assert_close(other, first, **TOLERANCE)


def test_what_is_absent_is_not_looked_at() -> None:
    """Parameters of categories that a row only has as padding have a gradient of exactly 0."""
    closet = wardrobe()
    network = made(closet.sizes, torch.float32)
    used = [int((closet.category == c).nonzero()[0]) for c in (2, 3, 4)]
    batch = batch_of(closet, [[used, used[:2]]], padding=4)
    network.loss(batch).sum().backward()
    for graph in network.graphs.values():
        for table in (graph.w_out, graph.w_msg):
            assert not table.grad[[0, 1, 5]].any()
            assert all(table.grad[c].any() for c in (2, 3, 4))


def test_an_outfit_of_one_item_scores_nothing() -> None:
    closet = wardrobe()
    network = made(closet.sizes, torch.float32)
    batch = batch_of(closet, [[[0], [0, 9, 14]]])
    scores = network.scores(network.project(batch.items), batch.outfits)
    assert scores[0, 0] == 0
    assert scores[0, 1] != 0


@pytest.mark.parametrize("options", [{}, {"edges": "cooccurrence", "consistency": "reference_bug"}])
def test_gradients_are_finite_differences(options: dict[str, Any]) -> None:
    closet = wardrobe(categories=3, each=2, image=2, words=2, dtype=torch.float64)
    network = made(closet.sizes, hidden_image=2, hidden_text=2, **options)
    batch = batch_of(closet, random_rows(closet, 4))
    network.loss(batch).sum().backward()
    step = 1e-6
    for parameter in network.parameters():
        for at in range(parameter.numel()):
            value = parameter.data.view(-1)
            kept = float(value[at])
            both = []
            for sign in (1, -1):
                value[at] = kept + sign * step
                both.append(network.loss(batch).sum().item())
            value[at] = kept
            found = 0.0 if parameter.grad is None else float(parameter.grad.view(-1)[at])
            assert found == pytest.approx((both[0] - both[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("blocks", [(), ("projection", "propagation")])
def test_autocast(blocks: tuple[str, ...]) -> None:
    closet = wardrobe()
    network = made(closet.sizes, torch.float32)
    batch = batch_of(closet, random_rows(closet, 8))
    exact = network.loss(batch)
    keep_float32(network, blocks, ("projection", "propagation"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = network.loss(batch)
    lowered.sum().backward()
    assert lowered.dtype == torch.float32
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    torch.testing.assert_close(lowered, exact, rtol=0.1, atol=0.1)
    assert torch.equal(lowered, exact) == bool(blocks)


def test_rows_alone_are_noted_and_given() -> None:
    """Of the matrices of categories, an optimiser of touched rows sees the present ones; of words, those that occur."""
    closet = wardrobe()
    network, whole = (made(closet.sizes, torch.float32) for _ in range(2))
    settings = OptimSettings(name="adagrad", lr=0.1, rows="touched")
    touched, _ = make_optimizer(settings, None, kernels="plain")(network.parameter_groups())
    touched.rows_only = True
    every, _ = make_optimizer(OptimSettings(name="adagrad", lr=0.1), None, kernels="plain")(whole.parameter_groups())
    for seed in range(4):
        batch = batch_of(closet, random_rows(closet, 3, seed=seed))
        for own, optimizer in ((network, touched), (whole, every)):
            optimizer.zero_grad()
            own.loss(batch).mean().backward()
        table = network.graphs["image"].w_in
        assert table.grad is None
        assert table.row_gradient.rows.tolist() == list(batch.items.categories)
        words = network.graphs["text"].w_in.row_gradient.rows
        assert set(words.tolist()) == {
            int(batch.items.category[o]) * 7 + int(w) for o, w in zip(batch.items.owner, batch.items.words, strict=True)
        }
        touched.step()
        every.step()
    for one, other in zip(network.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_plain_kernels_give_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """What devices other than a processor compute."""
    closet = wardrobe()
    batch = batch_of(closet, random_rows(closet, 6))
    found = []
    for plain in (False, True):
        monkeypatch.setattr(kernels, "_plain", plain)
        network = made(closet.sizes, torch.float32, edges="cooccurrence")
        network.loss(batch).sum().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 1])
def test_whatever_can_have_a_gradient_gets_one(steps: int) -> None:
    """Several processes wait for it."""
    closet = wardrobe()
    network = made(closet.sizes, torch.float32, steps=steps)
    network.loss(batch_of(closet, random_rows(closet, 6))).sum().backward()
    assert [p.requires_grad for p in network.parameters()] == [p.grad is not None for p in network.parameters()]
    assert all(p.requires_grad for p in network.parameters()) == bool(steps)


def test_it_is_what_the_problem_needs_and_all_parameters_are_penalised() -> None:
    network = NGNN(sizes=wardrobe().sizes, l2=0.5)
    assert isinstance(network, OutfitNetwork)
    groups = network.parameter_groups()
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in network.parameters()}
    assert {group["l2"] for group in groups} == {0.5}
    assert_penalties(groups, OptimSettings(name="adagrad"))
    with pytest.raises(ConfigError, match=r"optim\.rows=touched"):
        assert_penalties(groups, OptimSettings(name="adagrad", rows="touched"))


def test_full_size_has_the_reference_number_of_parameters() -> None:
    sizes = OutfitSizes(120, {"image": 2048, "text": 2757}, torch.zeros(120, 120))
    with torch.device("meta"):
        network = NGNN(sizes=sizes)
    assert list(network.graphs) == ["image", "text"]
    assert sum(p.numel() for p in network.parameters()) == 6_919_200 + 69_120 + 2 * (24 * 24 + 24 + 24 * 12 + 12) + 48


def test_initial_values() -> None:
    torch.manual_seed(3)
    sizes = OutfitSizes(40, {"image": 200, "text": 300}, torch.zeros(40, 40))
    network = NGNN(sizes=sizes, hidden_image=64, hidden_text=64)
    for graph in network.graphs.values():
        assert graph.w_in.std().item() == pytest.approx(2048**-0.5, rel=0.02)
        assert graph.w_out.std().item() == pytest.approx(1 / 8, rel=0.02)
        assert graph.w_msg.std().item() == pytest.approx(1 / 8, rel=0.02)
        assert graph.gate_kernel.abs().max().item() == pytest.approx((6 / 256) ** 0.5, rel=0.02)
        assert graph.candidate_kernel.abs().max().item() == pytest.approx((6 / 192) ** 0.5, rel=0.02)
        assert bool((graph.gate_bias == 1).all())
        assert not graph.candidate_bias.any()
        assert abs(graph.w_conf.mean().item()) < 0.06
        assert graph.w_score.std().item() == pytest.approx(1 / 8, rel=0.35)
    alone = NGNN(sizes=OutfitSizes(300, {"category": 1}, torch.zeros(300, 300)), hidden_category=25).graphs["category"]
    assert alone.w_in.shape == (300, 25)
    assert alone.w_in.std().item() == pytest.approx(1 / 5, rel=0.05)
    slip = NGNN(sizes=sizes, hidden_image=400, hidden_text=400, init_readout="reference").graphs["image"]
    assert slip.w_conf.mean().item() == pytest.approx(1 / 20, abs=0.16)
    assert slip.w_conf.std().item() == pytest.approx(1, rel=0.15)


def test_widths_that_cannot_be_compared_are_refused() -> None:
    sizes = wardrobe()
    with pytest.raises(ConfigError, match=r"hidden_image=3 and model\.hidden_text=4"):
        NGNN(sizes=sizes.sizes, hidden_image=3, hidden_text=4)
    for allowed in (sizes.only("image"), sizes.only("text")):
        NGNN(sizes=allowed, hidden_image=3, hidden_text=4)
    NGNN(sizes=sizes.sizes, hidden_image=3, hidden_text=4, consistency="reference_bug")
