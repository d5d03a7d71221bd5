"""DLRM's dot interaction in one compiled pass over a row's vectors, forward and backward."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recexp.models import kernels, native

#: Numbers of a vector register: the vectors of a row stand side by side in whole registers.
_LANES = 16


class _Interaction(Function):
    @staticmethod
    def forward(ctx: Any, library: ctypes.CDLL, dense: Tensor | None, fields: Tensor, itself: bool) -> Tensor:
        dense, fields = None if dense is None else dense.contiguous(), fields.contiguous()
        rows, number, dim = fields.shape
        vectors = number + (dense is not None)
        stride = -(-vectors // _LANES) * _LANES
        width = vectors * (vectors - 1) // 2 + itself * vectors + (0 if dense is None else dim)
        features, room = fields.new_empty(rows, width), fields.new_empty(dim + 1, stride)
        ctx.library, ctx.sizes = library, (rows, number, dim, int(itself))
        given = None if dense is None else dense.data_ptr()
        library.dots_forward(*ctx.sizes, stride, given, fields.data_ptr(), room.data_ptr(), features.data_ptr())
        ctx.save_for_backward(dense, fields)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor | None, Tensor, None]:
        dense, fields = ctx.saved_tensors
        upstream, vectors = gradients[0].contiguous(), fields.shape[1] + (dense is not None)
        of_dense, of_fields = None if dense is None else torch.empty_like(dense), torch.empty_like(fields)
        places = [None if t is None else t.data_ptr() for t in (dense, fields, upstream)]
        room = fields.new_empty(vectors, vectors)
        of = None if of_dense is None else of_dense.data_ptr()
        ctx.library.dots_backward(*ctx.sizes, *places, room.data_ptr(), of, of_fields.data_ptr())
        return None, of_dense, of_fields, None


def fused_interaction(dense: Tensor | None, fields: Tensor, *, itself: bool) -> Tensor | None:
    """The dense vector, then the products of all pairs; None where there are no loops for these tensors.

    Args:
        dense: [B, d], None where there are no dense numbers.
        fields: Vectors of the fields [B, F, d].
        itself: Whether each vector's product with itself is among the products.
    """
    given = [fields] if dense is None else [dense, fields]
    plain = torch.is_autocast_enabled(fields.device.type) or any(t.dtype != torch.float32 for t in given)
    library = native.library() if kernels.hand_written(fields) and not plain else None
    if library is None:
        return None
    value: Tensor = _Interaction.apply(library, dense, fields, itself)  # type: ignore[no-untyped-call]
    return value
