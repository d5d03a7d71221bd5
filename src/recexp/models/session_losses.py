"""Losses over the scores of a step: each slot's own target against the other columns.

Hidasi et al. 2016 (arXiv 1511.06939) for BPR and TOP1, Hidasi and Karatzoglou 2018 (arXiv 1706.03847) for the -max
losses; the details are those of the authors' code. Shapes: scores float32 [b, K], own int64 [b], results [b].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-24  # the authors' guard inside the logarithm


def cross_entropy(scores: Tensor, own: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """-log softmax of the target.

    Args:
        scores: Of the columns.
        own: Column of the target.
        smoothing: Share of the label that is spread over the other columns (the authors' Theano code).
    """
    log = functional.log_softmax(scores, dim=1)
    picked = -log.gather(1, own[:, None]).squeeze(1)
    if not smoothing:
        return picked
    columns = scores.shape[1]
    kept = 1 - columns / (columns - 1) * smoothing
    return kept * picked + smoothing / (columns - 1) * (-log).sum(1)


def bpr(scores: Tensor, own: Tensor) -> Tensor:
    """Mean over all columns, the target's own included (a constant ln 2 / K), of -log sigmoid(r_own - r_j)."""
    return functional.softplus(scores - scores.gather(1, own[:, None])).mean(1)


def top1(scores: Tensor, own: Tensor) -> Tensor:
    """Mean over the columns of sigmoid(r_j - r_own) + sigmoid(r_j^2), less the target's own regulariser."""
    target = scores.gather(1, own[:, None])
    mean = (torch.sigmoid(scores - target) + torch.sigmoid(scores.square())).mean(1)
    return mean - torch.sigmoid(target.square()).squeeze(1) / scores.shape[1]


def negative_softmax(scores: Tensor, own: Tensor) -> Tensor:
    """Softmax over the columns but the target's own, which has 0; [b, K]."""
    return scores.scatter(1, own[:, None], float("-inf")).softmax(1)


def bpr_max(scores: Tensor, own: Tensor, *, regularisation: float = 0.0) -> Tensor:
    """-log sum_j s_j sigmoid(r_own - r_j) + regularisation * sum_j s_j r_j^2, s the softmax of the negatives."""
    share = negative_softmax(scores, own)
    target = scores.gather(1, own[:, None])
    likelihood = (share * torch.sigmoid(target - scores)).sum(1)
    return regularisation * (share * scores.square()).sum(1) - torch.log(likelihood + _TINY)


def top1_max(scores: Tensor, own: Tensor) -> Tensor:
    """sum_j s_j (sigmoid(r_j - r_own) + sigmoid(r_j^2)), s the softmax of the negatives."""
    share = negative_softmax(scores, own)
    target = scores.gather(1, own[:, None])
    return (share * (torch.sigmoid(scores - target) + torch.sigmoid(scores.square()))).sum(1)
