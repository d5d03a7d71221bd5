"""Propagation, read-out, fusion and losses of outfits against golden cases; the dense form, too, is held to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dense_ngnn
import pytest
import torch
from outfit_batches import wardrobe

from recexp.models.ngnn import NGNN
from recexp.models.outfit_graph import Neighbours, OutfitGraph
from recexp.models.outfit_losses import modality_distance, pair_losses
from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes, OutfitSizes

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "ngnn.json").read_text("utf-8"))["cases"]
}


def golden_graph() -> tuple[OutfitGraph, OutfitBatch, dict[str, Any], dict[str, Any]]:
    given, expected = GOLDEN["node_wise_ggnn_two_steps"]["input"], GOLDEN["node_wise_ggnn_two_steps"]["expected"]
    names = {
        "w_in": "W_in", "w_out": "W_out_sender", "w_msg": "W_in_receiver", "gate_kernel": "gru_gate_kernel",
        "gate_bias": "gru_gate_bias", "candidate_kernel": "gru_candidate_kernel",
        "candidate_bias": "gru_candidate_bias", "w_conf": "w_conf", "w_score": "w_score",
    }  # fmt: skip
    graph = OutfitGraph(num_categories=3, width=2, hidden=2, by_word=False).double()
    for own, name in names.items():
        parameter = getattr(graph, own)
        parameter.data.copy_(torch.tensor(given[name], dtype=torch.float64).view(parameter.shape))
    items = ItemBatch([0, 1], [0, 1, 2], torch.tensor([0, 1]), image=torch.tensor(given["x"][:2], dtype=torch.float64))
    # The third node is padding, as absent categories are there.
    nodes = OutfitNodes(torch.tensor([[0, 1, 0]]), torch.tensor([[0, 1, 0]]), torch.tensor([[[True, True, False]]]))
    return graph, OutfitBatch(items, nodes), given, expected


def test_golden_propagation_state_by_state() -> None:
    graph, batch, given, expected = golden_graph()
    network = NGNN(sizes=OutfitSizes(3, {"image": 2}, torch.zeros(3, 3)), hidden_image=2).double()
    network.graphs["image"] = graph
    projected = network.project(batch.items)
    close = {"rtol": 1e-5, "atol": 1e-8}
    exact = torch.tensor(expected["pre_tanh_projection"], dtype=torch.float64)
    torch.testing.assert_close(projected["image"], exact[:2], **close)
    neighbours = Neighbours.of(batch.outfits, "complete", None, torch.float64)
    for step, states in enumerate(expected["h_trace"]):
        found = graph.propagate(projected["image"], batch.outfits, neighbours, step)
        torch.testing.assert_close(found[0, :, 0], torch.tensor(states, dtype=torch.float64), **close)
        assert not found[0, 2, 0].any(), "an absent node is exactly 0"
    final = graph.propagate(projected["image"], batch.outfits, neighbours, given["steps"])
    node_scores = torch.tensor(expected["node_score"], dtype=torch.float64) * torch.tensor(expected["conf"])
    torch.testing.assert_close(graph.read_out(final)[0, :, 0], node_scores, rtol=1e-5, atol=1e-7)
    network.steps = given["steps"]
    score = network.scores(projected, batch.outfits)
    torch.testing.assert_close(score, torch.tensor([[expected["outfit_score"]]], dtype=torch.float64), **close)


def test_golden_propagation_of_the_dense_form() -> None:
    graph, _, given, expected = golden_graph()
    own = {name: value.detach() for name, value in graph.named_parameters()}
    for name in ("w_in", "w_out", "w_msg"):
        own[name] = own[name].view(3, 2, 2)
    x, edges = (torch.tensor(given[name], dtype=torch.float64) for name in ("x", "adjacency"))
    present = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    states = dense_ngnn.trace(own, x, edges, present, given["steps"])
    torch.testing.assert_close(
        torch.stack(states), torch.tensor(expected["h_trace"], dtype=torch.float64), rtol=1e-5, atol=1e-8
    )
    for state, exact in zip(states, expected["messages"], strict=False):
        heard = dense_ngnn.messages(own, state, edges)
        torch.testing.assert_close(heard, torch.tensor(exact, dtype=torch.float64), rtol=1e-5, atol=1e-8)
    score = dense_ngnn.outfit_score(own, x, edges, present, given["steps"])
    torch.testing.assert_close(score.item(), expected["outfit_score"], rtol=1e-5, atol=1e-8)


def test_golden_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    case = GOLDEN["multimodal_fusion"]
    network = NGNN(sizes=wardrobe().sizes, beta=case["input"]["beta"])
    given = {"image": torch.tensor([[case["input"]["visual"]]]), "text": torch.tensor([[case["input"]["text"]]])}
    monkeypatch.setattr(network, "modality_scores", lambda *_: given)
    nodes = OutfitNodes(torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), torch.ones(1, 1, 1).bool())
    torch.testing.assert_close(network.scores({}, nodes).item(), case["expected"]["score"], rtol=1e-5, atol=1e-6)


def test_golden_pairwise_losses() -> None:
    case = GOLDEN["pairwise_losses"]
    scores = torch.tensor([case["input"]["s_pos"], case["input"]["s_neg"]], dtype=torch.float64).T
    for loss, key in (("neg_sigmoid", "code_loss"), ("bpr", "bpr_loss")):
        assert pair_losses(scores, loss).mean().item() == pytest.approx(case["expected"][key], rel=1e-8)


def test_golden_consistency() -> None:
    case = GOLDEN["visual_text_consistency"]
    image, text = (torch.tensor(case["input"][name])[0] for name in ("visual_ini", "text_ini"))
    # Category 0 is there, 1 is not: its projection would be that of another row's item.
    nodes = OutfitNodes(torch.tensor([[0, 0]]), torch.tensor([[0, 0]]), torch.tensor([[[True, False]]]))
    weight, term = case["input"]["weight"], case["expected"]["term"]
    assert weight * modality_distance(image, text, nodes, slots=2).item() == pytest.approx(term)
    assert weight * modality_distance(image, text, nodes).item() == pytest.approx(2 * term)
