"""The sum of a factorisation machine and the vectors it is made of, forward and backward in one pass each."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recexp.models import kernels, native


class _Terms(Function):
    @staticmethod
    def forward(
        ctx: Any, library: ctypes.CDLL, numbers: Tensor, own: Tensor, gathered: Tensor
    ) -> tuple[Tensor, Tensor]:
        numbers, own, gathered = numbers.contiguous(), own.contiguous(), gathered.contiguous()
        rows, fields, dim = len(gathered), gathered.shape[1], gathered.shape[2] - 1
        order, sums = gathered.new_empty(rows), gathered.new_empty(rows, dim)
        vectors = gathered.new_empty(rows, numbers.shape[1] + fields, dim)
        ctx.library, ctx.sizes = library, (rows, numbers.shape[1], fields, dim)
        library.fm_forward(*ctx.sizes, *(t.data_ptr() for t in (numbers, own, gathered, order, vectors, sums)))
        ctx.save_for_backward(numbers, vectors, sums)
        ctx.set_materialize_grads(False)
        return order, vectors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, None, Tensor, Tensor]:
        numbers, vectors, sums = ctx.saved_tensors
        rows, width, fields, dim = ctx.sizes
        of_order = vectors.new_zeros(rows) if gradients[0] is None else gradients[0].contiguous()
        of_vectors = None if gradients[1] is None else gradients[1].contiguous()
        of_own, of_gathered = vectors.new_zeros(width, 1 + dim), vectors.new_empty(rows, fields, 1 + dim)
        given = None if of_vectors is None else of_vectors.data_ptr()
        ctx.library.fm_backward(
            *ctx.sizes, numbers.data_ptr(), vectors.data_ptr(), sums.data_ptr(), of_order.data_ptr(), given,
            of_own.data_ptr(), of_gathered.data_ptr(),
        )  # fmt: skip
        return None, None, of_own, of_gathered


def fm_terms(numbers: Tensor, own: Tensor | None, gathered: Tensor) -> tuple[Tensor, Tensor]:
    """First order plus products of all pairs, [B], and the vectors times their numbers, [B, D + F, k].

    Args:
        numbers: float32 [B, D].
        own: Weight and vector of each number [D, 1 + k]; None: they have none, and D counts as 0.
        gathered: Weight and vector of each field [B, F, 1 + k].
    """
    if own is None:
        numbers, own = gathered.new_empty(len(gathered), 0), gathered.new_empty(0, gathered.shape[2])
    plain = torch.is_autocast_enabled(gathered.device.type) or any(
        t.dtype != torch.float32 for t in (numbers, own, gathered)
    )
    library = native.library() if kernels.hand_written(gathered) and not plain else None
    if library is not None:
        order, vectors = _Terms.apply(library, numbers, own, gathered)  # type: ignore[no-untyped-call]
        return order, vectors
    rows = torch.cat((numbers[..., None] * own, gathered), dim=1)
    vectors = rows[..., 1:]
    return rows[..., 0].sum(1) + pair_products(vectors).sum(1), vectors


def pair_products(vectors: Tensor) -> Tensor:
    """Sum over all pairs of the factors' products, (sum^2 - sum of squares) / 2 (Rendle 2010), [B, N, k] to [B, k]."""
    return 0.5 * (vectors.sum(1).square() - vectors.square().sum(1))
