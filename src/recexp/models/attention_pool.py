"""AttRec's self-attention, averaged over the rows: as plain operations, and fused by hand for the usual case."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

#: The reference's stand-in for minus infinity; finite, so that a row without keys stays finite.
MASKED = float(-(2**32) + 1)


def attention_mean(
    history_BLD: Tensor,
    position_LD: Tensor,
    query: Tensor | None,
    key: Tensor | None,
    valid_BL: Tensor,
    *,
    mask: str,
    average: str,
) -> Tensor:
    """Mean over the rows of softmax(Q K^T / sqrt(D)) E, [B, D]; Q, K = relu((E + P) W), values are the raw E.

    Args:
        history_BLD: Embeddings E of the history.
        position_LD: Position code P.
        query: W of the query, [D, D], or None for no projection.
        key: W of the key; the same tensor as ``query`` where they share one.
        valid_BL: False where the history is padding.
        mask: Which scores count. ``reference``: all but padding keys. ``paper``: neither padding nor the item
            itself. ``author``: all, and the diagonal is set to 0 after the softmax, without renormalising.
            ``scaled``: the diagonal is multiplied by 0 before the softmax (slientGe/AttRec), no padding mask.
        average: Mean over ``all`` L rows, or over the ``valid`` ones.
    """
    located = history_BLD + position_LD
    q = located if query is None else torch.relu(located @ query)
    k = q if key is query else torch.relu(located @ key) if key is not None else located
    scores = (q @ k.transpose(1, 2)).float() / math.sqrt(history_BLD.shape[-1])
    diagonal = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    if mask == "scaled":
        scores = scores.masked_fill(diagonal, 0.0)
    if mask in ("reference", "paper"):
        legal = valid_BL[:, None, :] & ~diagonal if mask == "paper" else valid_BL[:, None, :]
        scores = scores.masked_fill(~legal, MASKED)
    attention = scores.softmax(-1)
    if mask == "paper":
        # A single item has no key but itself: it attends to nothing, instead of to everything.
        attention = attention * legal
    if mask == "author":
        attention = attention.masked_fill(diagonal, 0.0)
    if average == "all":
        weights = attention.mean(1)
    else:
        rows = valid_BL.to(attention.dtype)
        weights = (attention * rows[:, :, None]).sum(1) / rows.sum(1, keepdim=True).clamp(min=1)
    return (weights.to(history_BLD.dtype)[:, None, :] @ history_BLD).squeeze(1)


class _FusedAttentionMean(Function):
    """Mask ``reference``, one shared W, mean over all rows: fewer and larger kernels, forward and back.

    The history comes as distinct rows and an index, because popular items stand in many histories of a batch:
    the products with W are done once for each. With Q = K the scores are symmetric, so they can be read with
    the key first, [L, B, L]: a softmax over the first dimension is vectorised, one over a last dimension of 5
    is not. Shapes: U distinct items.
    """

    @staticmethod
    def forward(
        ctx: Any, rows_UD: Tensor, index_BL: Tensor, position_LD: Tensor, weight: Tensor, valid_BL: Tensor
    ) -> Tensor:
        rows, length = index_BL.shape
        dim, index = rows_UD.shape[1], index_BL.reshape(-1)
        q = torch.mm(rows_UD, weight).index_select(0, index).view(rows, length, dim)
        q.add_(position_LD @ weight).relu_()
        scores = torch.bmm(q, q.transpose(1, 2)).transpose(0, 1) / math.sqrt(dim)
        attention = scores.masked_fill_(~valid_BL.T[:, :, None], MASKED).contiguous().softmax(0)
        weights = attention.mean(2).T.contiguous()
        history = rows_UD.index_select(0, index).view(rows, length, dim)
        ctx.save_for_backward(rows_UD, index, position_LD, weight, q, attention, weights, history)
        return torch.bmm(weights[:, None, :], history).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, Tensor, None]:
        rows_UD, index, position, weight, q, attention, weights, history = ctx.saved_tensors
        (d_mean,) = gradients
        length, dim = q.shape[1:]
        d_weights = torch.bmm(history, d_mean[:, :, None]).transpose(0, 1) / (length * math.sqrt(dim))
        # Softmax: dS = A * (dA - sum(dA * A)); dA is the same for every row of the mean.
        d_scores = attention * (d_weights - (attention * d_weights).sum(0))
        d_scores = d_scores.permute(1, 2, 0).contiguous() + d_scores.transpose(0, 1)
        d_q = torch.bmm(d_scores, q)
        torch.ops.aten.threshold_backward.grad_input(d_q, q, 0, grad_input=d_q)
        d_projected = torch.zeros_like(rows_UD).index_add_(0, index, d_q.view(-1, dim))
        d_weight = torch.mm(rows_UD.T, d_projected).addmm_(position.T, d_q.sum(0))
        d_rows = torch.mm(d_projected, weight.T)
        d_rows.index_add_(0, index, (weights[:, :, None] * d_mean[:, None, :]).view(-1, dim))
        return d_rows, None, None, d_weight, None


def fused_attention_mean(
    rows_UD: Tensor, index_BL: Tensor, position_LD: Tensor, weight: Tensor, valid_BL: Tensor
) -> Tensor:
    """:func:`attention_mean` of ``rows_UD[index_BL]`` with mask ``reference``, shared projection, average ``all``."""
    result: Tensor = _FusedAttentionMean.apply(rows_UD, index_BL, position_LD, weight, valid_BL)  # type: ignore[no-untyped-call]
    return result
