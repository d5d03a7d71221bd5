"""Layers and pairs by hand against torch's own operators and autograd, in value and gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recexp.models import kernels
from recexp.models.fused_layers import relu_layers, takes
from recexp.models.pairwise_dots import pairwise_dots


@pytest.fixture(autouse=True)
def kernels_stay_chosen() -> Iterator[None]:
    yield
    kernels.choose("auto")


def plain(x: Tensor, weights: list[Tensor], biases: list[Tensor], last_relu: bool) -> Tensor:
    for n, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = functional.linear(x, weight, bias)
        if last_relu or n + 1 < len(weights):
            x = functional.relu(x)
    return x


@pytest.mark.parametrize("last_relu", [True, False])
@pytest.mark.parametrize(("rows", "widths"), [(7, [3, 5]), (4, [13, 8, 6, 1]), (700, [367, 64, 33, 2])])
@pytest.mark.parametrize("needs_input", [True, False])
def test_layers_are_torchs(rows: int, widths: list[int], last_relu: bool, needs_input: bool) -> None:
    torch.manual_seed(rows)
    x = torch.randn(rows, widths[0], requires_grad=needs_input)
    weights = [torch.randn(o, i).div_(i**0.5).requires_grad_() for i, o in itertools.pairwise(widths)]
    biases = [torch.randn(o).requires_grad_() for o in widths[1:]]
    leaves = [*weights, *biases, *([x] if needs_input else [])]
    upstream = torch.randn(rows, widths[-1])
    kept = upstream.clone()
    assert takes(x, [*weights, *biases])
    value = relu_layers(x, weights, biases, last_relu=last_relu)
    found = torch.autograd.grad(value, leaves, upstream)
    assert torch.equal(upstream, kept), "the graph's own gradient was changed"
    doubled = [[leaf.detach().double().requires_grad_() for leaf in group] for group in (weights, biases)]
    wide = x.detach().double().requires_grad_(needs_input)
    expected = plain(wide, *doubled, last_relu)
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    again = torch.autograd.grad(
        expected, [*doubled[0], *doubled[1], *([wide] if needs_input else [])], upstream.double()
    )
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_plain_kernels_and_double_precision_take_torchs_operators() -> None:
    x, weight, bias = torch.randn(2, 3), torch.randn(4, 3), torch.randn(4)
    kernels.choose("plain")
    assert not takes(x, [weight])
    kernels.choose("auto")
    assert not takes(x.double(), [weight.double()])
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes(x, [weight])
        assert relu_layers(x, [weight], [bias], last_relu=False).dtype == torch.bfloat16


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("word", ["auto", "plain"])
def test_pairs_by_brute_force(itself: bool, word: str) -> None:
    kernels.choose(word)
    torch.manual_seed(1)
    vectors = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    pairs = [(i, j) for i in range(5) for j in range(i + itself)]
    expected = torch.stack([(vectors[:, i] * vectors[:, j]).sum(1) for i, j in pairs], dim=1)
    value = pairwise_dots(vectors, itself=itself)
    torch.testing.assert_close(value, expected)
    upstream = torch.randn_like(expected)
    (own,), (other,) = (torch.autograd.grad(each, vectors, upstream) for each in (value, expected))
    torch.testing.assert_close(own, other)


@pytest.mark.parametrize("itself", [False, True])
def test_half_width_pairs_have_the_gradient_of_the_gather_to_the_last_bit(itself: bool) -> None:
    """By another way back than the gather's own, which adds at places: not every device can do that in bfloat16."""
    kernels.choose("plain")
    torch.manual_seed(2)
    vectors = torch.randn(3, 6, 4).bfloat16().requires_grad_()
    row, column = torch.tril_indices(6, 6, 0 if itself else -1)
    expected = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, row * 6 + column)
    value = pairwise_dots(vectors, itself=itself)
    assert torch.equal(value, expected)
    upstream = torch.randn(expected.shape).bfloat16()
    (own,), (other,) = (torch.autograd.grad(each, vectors, upstream) for each in (value, expected))
    assert torch.equal(own, other)


@pytest.mark.parametrize("word", ["auto", "plain"])
def test_pairs_are_trained_after_an_evaluation_of_the_same_process(word: str) -> None:
    """Places of pairs are kept, and tensors made in inference mode cannot be saved for a backward pass."""
    kernels.choose(word)
    # A number of vectors that no other test has.
    vectors = torch.randn(2, 11 if word == "auto" else 12, 3, requires_grad=True)
    with torch.inference_mode():
        pairwise_dots(vectors)
    pairwise_dots(vectors).sum().backward()
    expected = vectors.detach().sum(1, keepdim=True) - vectors.detach()
    torch.testing.assert_close(vectors.grad, expected)
