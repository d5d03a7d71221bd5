"""How the dense vector and the fields' vectors of a row meet: inner products of all pairs, or side by side (DLRM)."""

from __future__ import annotations

import torch
from torch import Tensor

from recexp.models.fused_interaction import fused_interaction
from recexp.models.pairwise_dots import pairwise_dots

#: Words of ``model.arch_interaction_op``.
INTERACTIONS = ("dot", "cat")


def interaction_width(fields: int, dim: int, *, has_dense: bool, op: str, itself: bool) -> int:
    """Width of what :func:`interact` returns.

    Args:
        fields: Their number.
        dim: Width of a vector.
        has_dense: Whether there is a dense vector.
        op: A word of ``INTERACTIONS``.
        itself: Whether each vector's product with itself is among the products.
    """
    vectors = fields + has_dense
    if op == "cat":
        return vectors * dim
    pairs = vectors * (vectors + 1) // 2 if itself else vectors * (vectors - 1) // 2
    return pairs + has_dense * dim


def interact(dense: Tensor | None, fields: Tensor, *, op: str, itself: bool) -> Tensor:
    """Features of the top layers, [B, :func:`interaction_width`]: the dense vector, then the pairs; or all vectors.

    Args:
        dense: Vector of the dense numbers [B, d], which counts as the first of the vectors; None where there are none.
        fields: Vectors of the fields [B, F, d].
        op: A word of ``INTERACTIONS``.
        itself: Whether each vector's product with itself is among the products.
    """
    fused = fused_interaction(dense, fields, itself=itself) if op == "dot" else None
    if fused is not None:
        return fused
    vectors = fields if dense is None else torch.cat((dense[:, None], fields), dim=1)
    if op == "cat":
        return vectors.flatten(1)
    pairs = pairwise_dots(vectors, itself=itself)
    return pairs if dense is None else torch.cat((dense, pairs), dim=1)
