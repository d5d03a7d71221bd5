"""Losses of single impressions: cross-entropy of the click, weighted by class or not, or the squared error."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Words of ``model.loss`` (DLRM's ``loss-function``).
CLICK_LOSSES = ("mse", "bce", "wbce")
#: torch's own bound of a logarithm in the cross-entropy of probabilities.
_LOG_FLOOR = -100.0


def widened(value: Tensor) -> Tensor:
    """At least float32: log-odds and losses are not kept in what autocast lowers products to."""
    return value if value.dtype == torch.float64 else value.float()


def click_losses(
    logits: Tensor, label: Tensor, *, loss: str = "bce", clamp: float = 0.0, weights: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Loss of each impression, float32 [B] (float64 for log-odds of that type).

    Args:
        logits: Log-odds [B].
        label: 1 for a click, 0 for none; ``mse`` and ``bce`` also take what lies between [B].
        loss: A word of ``CLICK_LOSSES``.
        clamp: Probabilities are kept within [clamp, 1 - clamp], beyond which there is no gradient; 0: they are not.
        weights: ``wbce``: factors of the losses of impressions without and with a click.
    """
    logits = widened(logits)
    label = label.to(logits.dtype)
    if loss == "mse":
        return (_probability(logits, clamp) - label).square()
    losses = _cross_entropy(logits, label, clamp)
    if loss == "bce":
        return losses
    return torch.where(label < 1, weights[0] * losses, weights[1] * losses)


def _probability(logits: Tensor, clamp: float) -> Tensor:
    probability = logits.sigmoid()
    return probability.clamp(clamp, 1 - clamp) if clamp else probability


def _cross_entropy(logits: Tensor, label: Tensor, clamp: float) -> Tensor:
    """From log-odds where that says the same, because probabilities round to 0 and 1."""
    if not clamp:
        return functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    # Written out: autocast forbids torch's operator on probabilities.
    p = _probability(logits, clamp)
    clicked, not_clicked = p.log().clamp(min=_LOG_FLOOR), (-p).log1p().clamp(min=_LOG_FLOOR)
    return -(label * clicked + (1 - label) * not_clicked)
