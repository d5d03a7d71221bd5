"""Fully connected layers against torch's own modules: batch normalisation, dropout, initial values."""

from __future__ import annotations

import itertools

import pytest
import torch
from click_cases import golden
from torch import nn

from recexp.models.dense_layers import DenseLayers


def plain(layers: DenseLayers, widths: list[int], *, batch_norm: bool, last_relu: bool) -> nn.Sequential:
    """torch's modules with the same weights."""
    modules: list[nn.Module] = []
    for n, (into, out) in enumerate(itertools.pairwise(widths)):
        linear = nn.Linear(into, out)
        linear.weight, linear.bias = layers.weights[n], layers.biases[n]
        modules.append(linear)
        if last_relu or n < len(widths) - 2:
            if batch_norm:
                modules.append(nn.BatchNorm1d(out))
                modules[-1].load_state_dict(layers.norms[n].state_dict())
            modules.append(nn.ReLU())
    return nn.Sequential(*modules)


@pytest.mark.parametrize("last_relu", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_against_torchs_modules(last_relu: bool, batch_norm: bool) -> None:
    torch.manual_seed(0)
    widths = [5, 7, 4, 3]
    layers = DenseLayers(widths, last_relu=last_relu, batch_norm=batch_norm)
    layers.initialise()
    reference = plain(layers, widths, batch_norm=batch_norm, last_relu=last_relu)
    x = torch.randn(11, 5)
    torch.testing.assert_close(layers(x), reference(x))
    layers.eval()
    reference.eval()
    torch.testing.assert_close(layers(x), reference(x))


def test_dropout_falls_on_every_activation_and_on_nothing_else() -> None:
    torch.manual_seed(0)
    layers = DenseLayers([2, 1000, 1000], last_relu=True, dropout=0.4)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(1e-3)
    x = torch.ones(1, 2)
    dropped = layers(x).detach()
    assert float((dropped == 0).float().mean()) == pytest.approx(0.4, abs=0.06)
    kept = dropped[dropped > 0]
    # What is kept is scaled, and the layer below was dropped from, too.
    assert float(kept.mean()) == pytest.approx(float(layers.eval()(x).detach().mean()) / 0.6, rel=0.1)
    even = layers(x)
    torch.testing.assert_close(even, even[:, :1].expand_as(even))
    linear = DenseLayers([2, 1000], last_relu=False, dropout=0.4)
    linear.initialise()
    assert bool((linear(x) != 0).all())


def test_initial_values() -> None:
    case = golden("dlrm")["init_std"]
    torch.manual_seed(0)
    n, m = case["input"]["n"], case["input"]["m"]
    layers = DenseLayers([n, m, m], last_relu=True)
    layers.initialise()
    assert float(layers.weights[0].detach().std()) == pytest.approx(case["expected"]["w_std"], rel=0.05)
    assert float(layers.weights[1].detach().std()) == pytest.approx((2 / (m + m)) ** 0.5, rel=0.02)
    assert float(layers.biases[0].detach().std()) == pytest.approx(case["expected"]["b_std"], rel=0.1)
    layers.initialise(weight_std=0.3, bias_std=0.0)
    assert float(layers.weights[1].detach().std()) == pytest.approx(0.3, rel=0.02)
    assert not layers.biases[0].any()


@pytest.mark.parametrize("rows", [0, 1])
def test_a_row_alone_is_normalised_by_what_others_were(rows: int) -> None:
    """The last batch of an epoch, or a process's share of it, may be that small."""
    torch.manual_seed(0)
    layers = DenseLayers([5, 4, 1], last_relu=False, batch_norm=True)
    layers.initialise()
    layers(torch.randn(30, 5) + 3)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    x = torch.randn(rows, 5)
    found = layers.train()(x)
    found.sum().backward()
    torch.testing.assert_close(layers.state_dict(), before)
    torch.testing.assert_close(found, layers.eval()(x))
