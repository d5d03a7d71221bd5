"""Factorisation machine (Rendle 2010): a bias, a weight for each id and inner products of all pairs of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recexp.models.click_losses import click_losses, widened
from recexp.models.valued_fields import FirstAndSecondOrder, penalised

if TYPE_CHECKING:
    from recexp.problems.click import ClickBatch, ClickSizes


class FM(nn.Module):
    """The model and its loss."""

    def __init__(
        self,
        *,
        sizes: ClickSizes,
        dim: int = 16,
        bias: bool = True,
        l2_linear: float = 0.0,
        l2_embedding: float = 0.0,
        l2_scope: str = "full",
        init_std: float = 0.01,
        reduction: str = "mean",
    ) -> None:
        """Build and draw the parameters.

        Args:
            sizes: Of the data; a dense number is a field whose weight and vector are multiplied by it.
            dim: Width k of a vector.
            bias: Whether there is a global bias.
            l2_linear: Penalty l2_linear / 2 * sum(w^2) on the weights.
            l2_embedding: The same on the vectors.
            l2_scope: ``full``, or the rows that a ``batch`` looks up.
            init_std: Standard deviation of the initial tables.
            reduction: Of a batch's losses: ``mean`` or ``sum``.
        """
        super().__init__()
        self.reduction = reduction
        self.fields = FirstAndSecondOrder(sizes, dim, l2_linear=l2_linear, l2_embedding=l2_embedding, l2_scope=l2_scope)
        self.fields.initialise(init_std)
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The tables with their penalties, and the bias without one."""
        groups = self.fields.parameter_groups()
        return groups if self.bias is None else [*groups, penalised([self.bias], 0.0)]

    def logits(self, batch: ClickBatch) -> Tensor:
        """Log-odds of a click, float32 [B]."""
        logits = widened(self.fields.terms(batch)[0])
        return logits if self.bias is None else logits + self.bias

    def loss(self, batch: ClickBatch) -> Tensor:
        """Cross-entropy of each row, float32 [B]; the penalties are the optimiser's."""
        return click_losses(self.logits(batch), batch.label)
