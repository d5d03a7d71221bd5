"""DLRM's interaction against the double loop over pairs, compiled and with torch's operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recexp.models import kernels, native
from recexp.models.interactions import interact, interaction_width


@pytest.fixture(params=["compiled", "torch"])
def form(request: pytest.FixtureRequest, compiled: Path) -> Iterator[str]:
    kernels.choose("auto" if request.param == "compiled" else "plain", compiled)
    yield request.param
    kernels.choose("auto")


def by_pairs(dense: Tensor | None, fields: Tensor, itself: bool) -> Tensor:
    vectors = list(fields.unbind(1)) if dense is None else [dense, *fields.unbind(1)]
    pairs = [(vectors[i] * vectors[j]).sum(1) for i in range(len(vectors)) for j in range(i + itself)]
    return torch.cat(([] if dense is None else [dense]) + [pair[:, None] for pair in pairs], dim=1)


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("has_dense", [False, True])
@pytest.mark.parametrize(("rows", "number", "dim"), [(5, 2, 1), (3, 26, 16), (4, 15, 7), (2, 40, 3)])
def test_pairs_by_brute_force(form: str, rows: int, number: int, dim: int, has_dense: bool, itself: bool) -> None:
    torch.manual_seed(rows)
    dense = torch.randn(rows, dim, requires_grad=True) if has_dense else None
    fields = torch.randn(rows, number, dim, requires_grad=True)
    leaves = [fields] if dense is None else [dense, fields]
    found = interact(dense, fields, op="dot", itself=itself)
    assert found.shape[1] == interaction_width(number, dim, has_dense=has_dense, op="dot", itself=itself)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = by_pairs(wide[0] if has_dense else None, wide[-1], itself)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(found)
    own = torch.autograd.grad(found, leaves, upstream)
    plain = torch.autograd.grad(expected, wide, upstream.double())
    for one, other in zip(own, plain, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
    assert (native.library() is not None) == (form == "compiled")
