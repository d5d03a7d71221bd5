"""NGNN on the NPU: golden cases, the dense form, types, and the optimiser that counts how long a row has rested."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import pytest
import torch
from outfit_batches import batch_of, random_rows, wardrobe
from torch import Tensor

from recexp.config.settings import OptimSettings
from recexp.models.ngnn import NGNN
from recexp.models.outfit_graph import Neighbours
from recexp.models.outfit_losses import modality_distance, pair_losses
from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes
from recexp.training.optimizers import make_optimizer
from tests.models.test_ngnn import CASES, dense_loss, dense_parameters, made
from tests.models.test_outfit_graph import GOLDEN, golden_graph

pytestmark = pytest.mark.usefixtures("npu")
NPU = "npu:0"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
Part = TypeVar("Part")


def placed(part: Part, dtype: torch.dtype | None = None, device: str = NPU) -> Part:
    """The tensors of a batch, or of a part of it, on a device."""
    moved: dict[str, Any] = {}
    for name in (field.name for field in fields(part)):  # type: ignore[arg-type]
        value = getattr(part, name)
        if isinstance(value, Tensor):
            moved[name] = value.to(device, dtype if value.is_floating_point() else None)
        elif hasattr(value, "__dataclass_fields__"):
            moved[name] = placed(value, dtype, device)
    return replace(part, **moved)  # type: ignore[type-var]


# ---- golden cases and the dense form


def test_golden_propagation() -> None:
    graph, batch, given, expected = golden_graph()
    graph, batch = graph.float().to(NPU), placed(batch, torch.float32)
    network = NGNN(sizes=wardrobe(categories=3, image=2).only("image"), hidden_image=2, steps=given["steps"]).to(NPU)
    network.graphs["image"] = graph
    projected = network.project(batch.items)
    torch.testing.assert_close(projected["image"].cpu(), torch.tensor(expected["pre_tanh_projection"][:2]), **CLOSE)
    neighbours = Neighbours.of(batch.outfits, "complete", None, torch.float32)
    for step, states in enumerate(expected["h_trace"]):
        found = graph.propagate(projected["image"], batch.outfits, neighbours, step)
        assert str(found.device) == NPU
        torch.testing.assert_close(found[0, :, 0].cpu(), torch.tensor(states), **CLOSE)
        assert not found[0, 2, 0].cpu().any(), "an absent node is exactly 0"
    score = network.scores(projected, batch.outfits)
    torch.testing.assert_close(score.cpu(), torch.tensor([[expected["outfit_score"]]]), **CLOSE)


def test_golden_losses() -> None:
    case = GOLDEN["pairwise_losses"]
    scores = torch.tensor([case["input"]["s_pos"], case["input"]["s_neg"]], device=NPU).T
    for loss, key in (("neg_sigmoid", "code_loss"), ("bpr", "bpr_loss")):
        assert pair_losses(scores, loss).mean().item() == pytest.approx(case["expected"][key], rel=1e-6)
    case = GOLDEN["visual_text_consistency"]
    image, text = (torch.tensor(case["input"][name], device=NPU)[0] for name in ("visual_ini", "text_ini"))
    outfits = placed(batch_of(wardrobe(), [[[0], [0]]], padding=1).outfits)
    term = case["input"]["weight"] * modality_distance(image, text, outfits, slots=2).item()
    assert term == pytest.approx(case["expected"]["term"], rel=1e-6)


@pytest.mark.parametrize(("modalities", "options"), CASES)
def test_losses_and_gradients_are_those_of_the_dense_form(modalities: tuple[str, ...], options: dict[str, Any]) -> None:
    closet = wardrobe()
    network = made(closet.only(*modalities), torch.float32, **options)
    parameters = dense_parameters(network)
    rows, weight = random_rows(closet, 9), torch.linspace(0.5, 1.5, 9)
    network, batch = network.to(NPU), placed(batch_of(closet, rows, modalities))
    found = network.loss(batch)
    (found * weight.to(NPU)).sum().backward()
    expected = torch.stack([dense_loss(network, parameters, closet, row) for row in rows])
    (expected * weight.double()).sum().backward()
    assert str(found.device) == NPU
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    compared = 0
    for modality, own in parameters.items():
        for name, value in own.items():
            parameter = getattr(network.graphs[modality], name)
            if value.grad is None or parameter.grad is None:
                assert all(grad is None or not grad.any() for grad in (value.grad, parameter.grad)), name
                continue
            exact = value.grad.reshape(parameter.shape)
            atol = 1e-5 * max(1.0, float(exact.abs().max()))
            torch.testing.assert_close(parameter.grad.cpu().double(), exact, rtol=0, atol=atol)
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("device", ["cpu", NPU])
@pytest.mark.parametrize("modalities", [("image", "text"), ("category",)])
@pytest.mark.parametrize("options", [{}, {"edges": "cooccurrence", "consistency": "reference_bug"}, {"edges": "mean"}])
def test_a_process_without_rows_takes_part(modalities: tuple[str, ...], options: dict[str, Any], device: str) -> None:
    """The last batch of an epoch, shared by two: every parameter has a gradient, of 0."""
    closet = wardrobe()
    network = made(closet.only(*modalities), torch.float32, **options).to(device)
    full = batch_of(closet, random_rows(closet, 3), modalities)
    none = torch.zeros(0, dtype=torch.int64)
    features = {"image": full.items.image, "words": full.items.words, "owner": full.items.owner}
    items = ItemBatch([], [0], none, **{k: v if v is None else v[:0] for k, v in features.items()}, present=none)
    outfits = OutfitNodes(full.outfits.node[:0], full.outfits.category[:0], full.outfits.member[:0])
    losses = network.loss(placed(OutfitBatch(items, outfits), device=device))
    losses.sum().backward()
    assert losses.shape == (0,)
    assert all(parameter.grad is not None and not parameter.grad.cpu().any() for parameter in network.parameters())
    with torch.no_grad():
        none_scored = network.scores(network.project(placed(items, device=device)), placed(outfits, device=device))
    assert none_scored.shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_and_gradients_are_float32_in_every_precision(dtype: torch.dtype) -> None:
    closet = wardrobe()
    network = made(closet.sizes, torch.float32, consistency="reference_bug", edges="cooccurrence").to(NPU)
    batch = placed(batch_of(closet, random_rows(closet, 8)))
    exact = network.loss(batch)
    with torch.autocast("npu", dtype=dtype):
        lowered = network.loss(batch)
    lowered.sum().backward()
    assert lowered.dtype == torch.float32
    assert not torch.equal(lowered, exact)
    torch.testing.assert_close(lowered.cpu(), exact.cpu(), rtol=0.1, atol=0.1)
    assert all(parameter.grad.isfinite().all().item() for parameter in network.parameters())


# ---- the optimiser


@pytest.mark.parametrize("rows", ["touched", "all"])
def test_rows_that_rested_are_made_good_as_on_the_cpu(rows: str) -> None:
    """TensorFlow's RMSProp; the updates that a row has missed are counted in whole numbers on the NPU itself."""
    closet = wardrobe()
    networks = [made(closet.sizes, torch.float32) for _ in range(2)]
    networks[1].to(NPU)
    settings = [OptimSettings(name="rmsprop_tf", lr=0.05, rows=word) for word in ("all", rows)]
    optimizers = [
        make_optimizer(own, None, kernels="plain")(network.parameter_groups())[0]
        for own, network in zip(settings, networks, strict=True)
    ]
    for seed in range(6):
        batch = batch_of(closet, random_rows(closet, 2, seed=seed))
        for network, optimizer, own in zip(networks, optimizers, (batch, placed(batch)), strict=True):
            optimizer.zero_grad()
            network.loss(own).mean().backward()
            optimizer.step()
    table = networks[1].graphs["text"].w_in
    if rows == "touched":
        visited = optimizers[1].state[table]["visited"]
        assert (str(visited.device), visited.dtype) == (NPU, torch.int32)
        assert 2 <= len({*visited.flatten().tolist()}) <= 7, "rows that were visited at different times"
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-4, atol=1e-5)
