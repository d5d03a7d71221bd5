"""Inner products of all pairs among a row's vectors, whose pairs go back by a gather."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


@cache
def _indices(vectors: int, itself: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of the pairs (1,0), (2,0), (2,1), ... in a flat [n, n] matrix, and for each of its places its pair."""
    row, column = torch.tril_indices(vectors, vectors, 0 if itself else -1, device=device)
    pair = torch.zeros(vectors, vectors, dtype=torch.int64, device=device)
    number = torch.arange(len(row), device=device)
    pair[row, column] = number
    pair[column, row] = number
    return row * vectors + column, pair.reshape(-1)


@cache
def _left_out(vectors: int, itself: bool, device: torch.device) -> Tensor:
    """Places of a flat [n, n] matrix at which no pair is read, bool [n n]."""
    left_out = torch.ones(vectors * vectors, dtype=torch.bool, device=device)
    left_out[_indices(vectors, itself, device)[0]] = False
    return left_out


class _Pairs(Function):
    """Each pair of a flat [n, n] matrix once; back by a gather: NPUs cannot add bfloat16 to chosen places."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, vectors: int, itself: bool) -> Tensor:
        ctx.vectors, ctx.itself = vectors, itself
        place, _ = _indices(vectors, itself, products.device)
        return products.index_select(1, place)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _, pair = _indices(ctx.vectors, ctx.itself, gradients[0].device)
        both = gradients[0].index_select(1, pair)
        return both.masked_fill_(_left_out(ctx.vectors, ctx.itself, both.device), 0), None, None


def pairwise_dots(vectors: Tensor, *, itself: bool = False) -> Tensor:
    """Inner products in the order (1,0), (2,0), (2,1), (3,0), ..., [B, n, d] to [B, n (n - 1) / 2].

    Args:
        vectors: n vectors of each row.
        itself: Whether each vector's product with itself is among them, [B, n (n + 1) / 2].
    """
    products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
    chosen: Tensor = _Pairs.apply(products, vectors.shape[1], itself)  # type: ignore[no-untyped-call]
    return chosen
