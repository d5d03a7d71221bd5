"""Losses of pairs of outfits, and how far apart the projections of their items may be.

Shape letters: B rows, W nodes, U items, h width of a projection. Results are float32 [B], float64 of such
inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from recexp.problems.outfit import OutfitNodes

#: Words of ``model.loss``.
PAIR_LOSSES = ("bpr", "neg_sigmoid")


def pair_losses(scores: Tensor, loss: str) -> Tensor:
    """Loss of each pair by the difference of its scores.

    Args:
        scores: Of the real outfit and of the other, [B, 2].
        loss: ``bpr``: -log sigmoid(difference) (arXiv 1902.08009). ``neg_sigmoid``: -sigmoid(difference), the authors'
            code.
    """
    difference = scores[:, 0] - scores[:, 1]
    return functional.softplus(-difference) if loss == "bpr" else -torch.sigmoid(difference)


def modality_distance(image: Tensor, text: Tensor, outfits: OutfitNodes, *, slots: int | None = None) -> Tensor:
    """Mean squared difference between the projections of an item's picture and of its words, over the real outfit.

    Args:
        image: [U, h].
        text: [U, h].
        outfits: Outfit 0 is the real one.
        slots: Number of nodes to divide by; None: those that the outfit has. The reference divides by the number of
            categories, because absent ones are zeros in its mean.
    """
    member = outfits.member[:, 0].to(image.dtype)
    items = (image - text).square().mean(1)
    total = (items.index_select(0, outfits.node.reshape(-1)).view_as(member) * member).sum(1)
    return total / (member.sum(1).clamp(min=1) if slots is None else slots)


def swap_distance(image: Tensor, outfits: OutfitNodes, *, slots: int) -> Tensor:
    """Mean squared difference between the projections of the real and the other outfit, category by category.

    What the authors' code computes instead of :func:`modality_distance`, because a variable is written twice. Shared
    nodes cancel; a category that only one of both has counts with its square.

    Args:
        image: [U, h].
        outfits: Outfit 0 is the real one, 1 the other.
        slots: Number of categories, by which the mean divides.
    """
    sign = outfits.member[:, 0].to(image.dtype) - outfits.member[:, 1].to(image.dtype)
    signed = image.index_select(0, outfits.node.reshape(-1)).view(*sign.shape, image.shape[1]) * sign[..., None]
    same = (outfits.category[:, :, None] == outfits.category[:, None, :]).to(image.dtype)
    # |sum over a category|^2 is the sum over its pairs: no table of categories is needed.
    paired = (same[..., None] * signed[:, None]).sum(2)
    return (signed * paired).sum((1, 2)) / (slots * image.shape[1])
