"""NGNN as its authors lay it out: a node for every category, absent or not, dense inputs, one outfit after the other.

Nothing here is shared with ``recexp.models``. Source: arXiv 1902.08009 and CRIPAC-DIG/NGNN, model/model_multimodal.py.
Shapes: C categories, d width of an input, h of a state. An input is [C, d], the row of an absent category 0.

Parameters of one modality, by name: ``w_in`` [C, d, h], ``w_out`` and ``w_msg`` [C, h, h], ``gate_kernel`` [2h, 2h],
``gate_bias`` [2h], ``candidate_kernel`` [2h, h], ``candidate_bias`` [h], ``w_conf`` and ``w_score`` [h].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]


def adjacency(categories: Sequence[int], edges: str, cooccurrence: Tensor) -> Tensor:
    """[C, C]: entry (i, j) weighs what node i hears of node j."""
    size = len(cooccurrence)
    found = torch.zeros(size, size, dtype=torch.float64)
    for i in categories:
        for j in categories:
            if i != j:
                found[i, j] = cooccurrence[j, i] if edges == "cooccurrence" else 1.0
    if edges == "mean":
        found = found / found.sum(0).clamp(min=1.0)
    return found


def project(parameters: Parameters, inputs: Tensor) -> Tensor:
    """[C, h], before the tanh."""
    return torch.stack([inputs[c] @ parameters["w_in"][c] for c in range(len(inputs))])


def gated_unit(parameters: Parameters, message: Tensor, state: Tensor) -> Tensor:
    """TensorFlow 1's GRUCell, [C, h]."""
    h = state.shape[1]
    gates = torch.sigmoid(torch.cat([message, state], 1) @ parameters["gate_kernel"] + parameters["gate_bias"])
    reset, update = gates[:, :h], gates[:, h:]
    joined = torch.cat([message, reset * state], 1)
    candidate = torch.tanh(joined @ parameters["candidate_kernel"] + parameters["candidate_bias"])
    return update * state + (1 - update) * candidate


def messages(parameters: Parameters, state: Tensor, edges: Tensor) -> Tensor:
    """[C, h]."""
    sent = torch.stack([state[c] @ parameters["w_out"][c] for c in range(len(state))])
    heard = edges @ sent
    return torch.stack([heard[c] @ parameters["w_msg"][c] for c in range(len(state))])


def trace(parameters: Parameters, inputs: Tensor, edges: Tensor, present: Tensor, steps: int) -> list[Tensor]:
    """States before the first and after each step, each [C, h]; ``present`` [C] is 1 for the outfit's categories."""
    degree = edges.sum(0) + edges.sum(1)
    linked = (present * (degree > 0))[:, None]
    states = [torch.tanh(project(parameters, inputs)) * present[:, None]]
    for _ in range(steps):
        states.append(gated_unit(parameters, messages(parameters, states[-1], edges), states[-1]) * linked)
    return states


def node_scores(parameters: Parameters, state: Tensor) -> Tensor:
    """[C]."""
    score = state @ parameters["w_score"]
    return torch.sigmoid(state @ parameters["w_conf"]) * torch.where(score > 0, score, 0.01 * score)


def outfit_score(parameters: Parameters, inputs: Tensor, edges: Tensor, present: Tensor, steps: int) -> Tensor:
    """[]."""
    return node_scores(parameters, trace(parameters, inputs, edges, present, steps)[-1]).sum()


def fused(scores: Mapping[str, Tensor], beta: float) -> Tensor:
    """Of the modalities that there are."""
    if len(scores) == 1:
        return next(iter(scores.values()))
    return beta * scores["image"] + (1 - beta) * scores["text"]


def pair_loss(positive: Tensor, negative: Tensor, loss: str) -> Tensor:
    """Of one pair."""
    if loss == "bpr":
        return -torch.log(torch.sigmoid(positive - negative))
    return -torch.sigmoid(positive - negative)


def consistency(kind: str, mean: str, present: Tensor, image: tuple[Tensor, Tensor], text: Tensor) -> Tensor:
    """Before its weight: of the projections of both outfits' pictures and of the real one's words, [C, h]."""
    if kind == "reference_bug":
        return ((image[0] - image[1]) ** 2).mean()
    if mean == "all":
        return ((image[0] - text) ** 2).mean()
    return torch.stack([(image[0][c] - text[c]) ** 2 for c in range(len(present)) if present[c]]).mean()
