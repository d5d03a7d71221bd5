"""NGNN's gradients by hand against those of torch's graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recexp.models import kernels, native
from recexp.models.ngnn import NGNN
from recexp.models.ngnn_fused import NGNNGradients
from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes, OutfitSizes

CATEGORIES, WORDS, PER_CATEGORY = 11, 17, 3


@pytest.fixture(autouse=True)
def loops(compiled: Path) -> Iterator[None]:
    native._library.cache_clear()
    kernels.choose("auto", compiled)
    yield
    native._library.cache_clear()
    kernels.choose("auto")


def rows_of(draw: np.random.Generator, rows: int, outfits: int, longest: int) -> list[list[dict[int, int]]]:
    """Outfits as the item of each category: the first real, others with one item instead of another."""
    found = []
    for _ in range(rows):
        real = {
            int(c): int(c) * PER_CATEGORY + int(draw.integers(PER_CATEGORY))
            for c in draw.permutation(CATEGORIES)[: draw.integers(1, longest + 1)]
        }
        own = [real]
        for _ in range(outfits - 1):
            other = dict(real)
            if draw.random() > 0.15:
                other.pop(list(other)[int(draw.integers(len(other)))])
                item = int(draw.integers(CATEGORIES * PER_CATEGORY))
                other[item // PER_CATEGORY] = item
            own.append(other)
        found.append(own)
    return found


def batch_of(seed: int = 0, *, rows: int = 12, outfits: int = 2, longest: int = 7, width: int = 21) -> OutfitBatch:
    """Random outfits and features; some outfits of one node, some rows whose outfits are the same, some no words."""
    draw = np.random.default_rng(seed)
    drawn = rows_of(draw, rows, outfits, longest)
    items = sorted({item for own in drawn for outfit in own for item in outfit.values()})
    nodes = [sorted({item for outfit in own for item in outfit.values()}) for own in drawn]
    wide = max(map(len, nodes)) + 1
    node, category = torch.zeros(rows, wide, dtype=torch.int64), torch.zeros(rows, wide, dtype=torch.int64)
    member = torch.zeros(rows, outfits, wide, dtype=torch.bool)
    for b, own in enumerate(nodes):
        for w, item in enumerate(own):
            node[b, w], category[b, w] = items.index(item), item // PER_CATEGORY
            for k, outfit in enumerate(drawn[b]):
                member[b, k, w] = item in outfit.values()
    of_item = [item // PER_CATEGORY for item in items]
    present = sorted(set(of_item))
    counts = draw.integers(0, 5, len(items))
    return OutfitBatch(
        ItemBatch(
            categories=present,
            bounds=[0, *(of_item.index(c) for c in present[1:]), len(items)],
            category=torch.tensor(of_item),
            image=torch.from_numpy(draw.normal(size=(len(items), width)).astype(np.float32)),
            words=torch.from_numpy(draw.integers(0, WORDS, counts.sum())),
            owner=torch.from_numpy(np.repeat(np.arange(len(items)), counts)),
        ),
        OutfitNodes(node, category, member),
    )


def network_of(modalities: str = "image text", *, width: int = 21, seed: int = 0, **options: Any) -> NGNN:
    """With parameters that are large enough for every term to matter."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(CATEGORIES, CATEGORIES, generator=draw)
    weights *= torch.rand(CATEGORIES, CATEGORIES, generator=draw) > 0.5
    weights = (weights * (weights.T > 0)).fill_diagonal_(0)
    widths = {"image": width, "text": WORDS, "category": 1}
    sizes = OutfitSizes(CATEGORIES, {name: widths[name] for name in modalities.split()}, weights)
    network = NGNN(sizes=sizes, **options)
    for name, parameter in network.named_parameters():
        torch.nn.init.normal_(parameter, std=0.15 if "w_in" in name else 0.35, generator=draw)
    return network


def by_graph(network: NGNN, batch: OutfitBatch, scale: float) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    loss = network.loss(batch).sum() * scale
    loss.backward()
    return loss.detach(), {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in network.named_parameters()
    }


def by_hand(network: NGNN, batch: OutfitBatch, scale: float) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    gradients = NGNNGradients(network)
    gradients.prepare([batch])
    loss = gradients(batch, scale)
    found = {}
    for name, parameter in network.named_parameters():
        rows = getattr(parameter, "row_gradient", None)
        if rows is None:
            assert parameter.grad is not None
            found[name] = parameter.grad.clone()
            continue
        assert not rows.distinct or len(rows.rows.unique()) == len(rows.rows)
        found[name] = torch.zeros_like(parameter).index_add_(0, rows.rows, rows.values).detach()
        del parameter.row_gradient
    return loss, found


def assert_same(network: NGNN, batch: OutfitBatch, scale: float = 0.3) -> None:
    loss, expected = by_graph(network, batch, scale)
    mine, found = by_hand(network, batch, scale)
    torch.testing.assert_close(mine, loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        atol = 1e-5 * max(float(gradient.abs().max()), 1e-4)
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("edges", ["complete", "mean", "cooccurrence"])
@pytest.mark.parametrize("loss", ["bpr", "neg_sigmoid"])
@pytest.mark.parametrize("consistency", ["none", "paper", "reference_bug"])
@pytest.mark.parametrize("modalities", ["image text", "image", "text", "category"])
def test_gradients_are_those_of_the_graph(edges: str, loss: str, consistency: str, modalities: str) -> None:
    network = network_of(modalities, edges=edges, loss=loss, consistency=consistency)
    assert_same(network, batch_of(3))
