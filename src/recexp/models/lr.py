"""Logistic regression: a bias, a weight for each id and a weight for each dense number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recexp.models.click_losses import click_losses, widened
from recexp.models.valued_fields import ValuedFields, penalised

if TYPE_CHECKING:
    from recexp.problems.click import ClickBatch, ClickSizes


class LR(nn.Module):
    """The model and its loss."""

    def __init__(
        self,
        *,
        sizes: ClickSizes,
        bias: bool = True,
        l2: float = 0.0,
        l2_scope: str = "full",
        init_std: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        """Build and draw the parameters.

        Args:
            sizes: Of the data.
            bias: Whether there is a global bias.
            l2: Penalty l2 / 2 * sum(w^2) on the weights.
            l2_scope: ``full``, or the rows that a ``batch`` looks up.
            init_std: Standard deviation of the initial weights.
            reduction: Of a batch's losses: ``mean`` or ``sum``.
        """
        super().__init__()
        self.reduction, self.l2, self.l2_scope = reduction, l2, l2_scope
        self.fields = ValuedFields(sizes, 1)
        self.fields.initialise(init_std)
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The weights with their penalty, and the bias without one."""
        groups = [self.fields.penalised(self.l2, self.l2_scope)]
        return groups if self.bias is None else [*groups, penalised([self.bias], 0.0)]

    def logits(self, batch: ClickBatch) -> Tensor:
        """Log-odds of a click, float32 [B]."""
        logits = widened(self.fields(batch).sum((1, 2)))
        return logits if self.bias is None else logits + self.bias

    def loss(self, batch: ClickBatch) -> Tensor:
        """Cross-entropy of each row, float32 [B]; the penalties are the optimiser's."""
        return click_losses(self.logits(batch), batch.label)
