"""Losses of clicks against golden numbers and torch's own operators."""

from __future__ import annotations

import pytest
import torch
from click_cases import golden
from torch import Tensor
from torch.nn import functional

from recexp.models.click_losses import click_losses

P = torch.tensor([0.9, 0.2, 0.6, 0.4], dtype=torch.float64)
Y = torch.tensor([1.0, 0, 0, 1], dtype=torch.float64)


def test_golden_cross_entropy() -> None:
    case = golden("dlrm")["bce_and_wbce"]
    assert case["input"]["p"] == P.tolist()
    expected, weights = case["expected"], tuple(case["input"]["weights_neg_pos"])
    assert float(click_losses(P.logit(), Y).mean()) == pytest.approx(expected["bce"], rel=1e-9)
    weighted = click_losses(P.logit(), Y, loss="wbce", weights=weights)
    assert float(weighted.mean()) == pytest.approx(expected["wbce"], rel=1e-9)


def reference(logits: Tensor, label: Tensor, loss: str, clamp: float, weights: tuple[float, float]) -> Tensor:
    """dlrm_s_pytorch.py: sigmoid, clamp, loss of probabilities."""
    p = torch.sigmoid(logits)
    if 0.0 < clamp < 1.0:
        p = torch.clamp(p, min=clamp, max=1.0 - clamp)
    if loss == "mse":
        return functional.mse_loss(p, label, reduction="none")
    rows = functional.binary_cross_entropy(p, label, reduction="none")
    return rows * torch.tensor(weights, dtype=torch.float64)[label.long()] if loss == "wbce" else rows


@pytest.mark.parametrize("clamp", [0.0, 0.2])
@pytest.mark.parametrize("loss", ["mse", "bce", "wbce"])
def test_as_the_reference_in_value_and_gradient(loss: str, clamp: float) -> None:
    logits = torch.linspace(-4, 4, 20, dtype=torch.float64, requires_grad=True)
    label = (torch.arange(20) % 2).double()
    found = click_losses(logits, label, loss=loss, clamp=clamp, weights=(0.3, 2.0))
    expected = reference(logits, label, loss, clamp, (0.3, 2.0))
    torch.testing.assert_close(found, expected)
    own, other = (torch.autograd.grad(each.sum(), logits)[0] for each in (found, expected))
    torch.testing.assert_close(own, other)
    # Beyond the clamp there is no gradient.
    assert bool((own == 0).any()) == bool(clamp)


def test_large_log_odds_keep_their_loss_and_gradient() -> None:
    """From probabilities in float32 both would be lost: sigmoid(40) is 1."""
    logits = torch.tensor([40.0, -40.0], requires_grad=True)
    losses = click_losses(logits, torch.tensor([0.0, 1.0]))
    assert losses.tolist() == pytest.approx([40.0, 40.0])
    losses.sum().backward()
    assert logits.grad.tolist() == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize("clamp", [0.0, 0.01])
@pytest.mark.parametrize("loss", ["mse", "bce", "wbce"])
def test_float32_whatever_autocast_says(loss: str, clamp: float) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = click_losses(P.logit().to(torch.bfloat16), Y.float(), loss=loss, clamp=clamp)
    assert losses.dtype == torch.float32
