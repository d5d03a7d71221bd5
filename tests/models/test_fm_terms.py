"""Terms of a factorisation machine against the double loop over pairs, in value and gradient, compiled and not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recexp.models import kernels, native
from recexp.models.fm_terms import fm_terms


@pytest.fixture(params=["compiled", "torch"])
def form(request: pytest.FixtureRequest, compiled: Path) -> Iterator[str]:
    kernels.choose("auto" if request.param == "compiled" else "plain", compiled)
    yield request.param
    kernels.choose("auto")


def pairs(numbers: Tensor, own: Tensor, gathered: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.cat((numbers[..., None] * own, gathered), dim=1)
    vectors = rows[..., 1:]
    order = rows[..., 0].sum(1)
    for i in range(vectors.shape[1]):
        for j in range(i):
            order = order + (vectors[:, i] * vectors[:, j]).sum(1)
    return order, vectors


@pytest.mark.parametrize("dim", [1, 5, 16])
@pytest.mark.parametrize("uses", ["both", "order", "vectors"])
@pytest.mark.parametrize("width", [0, 3])
def test_terms_by_brute_force(form: str, dim: int, uses: str, width: int) -> None:
    torch.manual_seed(dim)
    numbers = torch.randn(6, width)
    own, gathered = torch.randn(width, 1 + dim, requires_grad=True), torch.randn(6, 4, 1 + dim, requires_grad=True)
    found = fm_terms(numbers, own if width else None, gathered)
    wide = [own.detach().double().requires_grad_(), gathered.detach().double().requires_grad_()]
    expected = pairs(numbers.double(), *wide)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)
    chosen = {"both": (0, 1), "order": (0,), "vectors": (1,)}[uses]
    upstream = [torch.randn_like(found[n]) for n in chosen]
    leaves = [own, gathered] if width else [gathered]
    own_way = torch.autograd.grad([found[n] for n in chosen], leaves, upstream)
    plain = torch.autograd.grad([expected[n] for n in chosen], wide[2 - len(leaves) :], [u.double() for u in upstream])
    for one, other in zip(own_way, plain, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
    assert (native.library() is not None) == (form == "compiled")
