"""NGNN's gradients by hand against those of torch's graph."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recexp.config.settings import OptimSettings
from recexp.models import kernels, native
from recexp.models.ngnn import NGNN
from recexp.models.ngnn_fused import NGNNGradients, compiled_scores
from recexp.problems.outfit import ItemBatch, OutfitBatch, OutfitNodes, OutfitSizes
from recexp.training.optimizers import make_optimizer
from recexp.training.row_optimizer import RowOptimizer

CATEGORIES, WORDS = 11, 17


@pytest.fixture(autouse=True)
def loops(compiled: Path) -> Iterator[None]:
    native._library.cache_clear()
    kernels.choose("auto", compiled)
    yield
    native._library.cache_clear()
    kernels.choose("auto")


def rows_of(
    draw: np.random.Generator, rows: int, outfits: int, longest: int, per_category: int
) -> list[list[dict[int, int]]]:
    """Outfits as the item of each category: the first real, others with one item instead of another."""
    found = []
    for _ in range(rows):
        real = {
            int(c): int(c) * per_category + int(draw.integers(per_category))
            for c in draw.permutation(CATEGORIES)[: draw.integers(1, longest + 1)]
        }
        own = [real]
        for _ in range(outfits - 1):
            other = dict(real)
            if draw.random() > 0.15:
                other.pop(list(other)[int(draw.integers(len(other)))])
                item = int(draw.integers(CATEGORIES * per_category))
                other[item // per_category] = item
            own.append(other)
        found.append(own)
    return found


def batch_of(
    seed: int = 0, *, rows: int = 12, outfits: int = 2, longest: int = 7, width: int = 21, per_category: int = 3
) -> OutfitBatch:
    """Random outfits and features; some outfits of one node, some rows whose outfits are the same, some no words."""
    draw = np.random.default_rng(seed)
    drawn = rows_of(draw, rows, outfits, longest, per_category)
    items = sorted({item for own in drawn for outfit in own for item in outfit.values()})
    nodes = [sorted({item for outfit in own for item in outfit.values()}) for own in drawn]
    wide = max(map(len, nodes)) + 1
    node, category = torch.zeros(rows, wide, dtype=torch.int64), torch.zeros(rows, wide, dtype=torch.int64)
    member = torch.zeros(rows, outfits, wide, dtype=torch.bool)
    for b, own in enumerate(nodes):
        for w, item in enumerate(own):
            node[b, w], category[b, w] = items.index(item), item // per_category
            for k, outfit in enumerate(drawn[b]):
                member[b, k, w] = item in outfit.values()
    of_item = [item // per_category for item in items]
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
        hidden = len(network.get_parameter(f"graphs.{name.split('.')[1]}.w_conf"))
        std = 0.15 if "w_in" in name else 1.2 / hidden**0.5
        torch.nn.init.normal_(parameter, std=std, generator=draw)
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
    return loss, collected(network)


def collected(network: NGNN) -> dict[str, Tensor]:
    """Whole gradients from where they were left, which is emptied."""
    found = {}
    for name, parameter in network.named_parameters():
        rows = getattr(parameter, "row_gradient", None)
        if not parameter.requires_grad:
            assert parameter.grad is None
            found[name] = torch.zeros_like(parameter)
            continue
        if rows is None:
            assert parameter.grad is not None
            found[name] = parameter.grad.clone()
            continue
        assert not rows.distinct or len(rows.rows.unique()) == len(rows.rows)
        found[name] = torch.zeros_like(parameter).index_add_(0, rows.rows, rows.values).detach()
        del parameter.row_gradient
    return found


def assert_same(network: NGNN, batch: OutfitBatch, scale: float = 0.3) -> None:
    loss, expected = by_graph(network, batch, scale)
    mine, found = by_hand(network, batch, scale)
    torch.testing.assert_close(mine, loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        atol = 1e-5 * max(float(gradient.abs().max()), 0.05)
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("edges", ["complete", "mean", "cooccurrence"])
@pytest.mark.parametrize("loss", ["bpr", "neg_sigmoid"])
@pytest.mark.parametrize("consistency", ["none", "paper", "reference_bug"])
@pytest.mark.parametrize("modalities", ["image text", "image", "text", "category"])
def test_gradients_are_those_of_the_graph(edges: str, loss: str, consistency: str, modalities: str) -> None:
    network = network_of(modalities, edges=edges, loss=loss, consistency=consistency)
    assert_same(network, batch_of(3))


@pytest.mark.parametrize("hidden", [1, 5, 16, 17, 33])
def test_states_of_any_width(hidden: int) -> None:
    options = {f"hidden_{name}": hidden for name in ("image", "text", "category")}
    assert_same(network_of(**options), batch_of(hidden))
    assert_same(network_of("category", **options), batch_of(hidden))


def test_modalities_of_different_widths_and_weights() -> None:
    network = network_of(hidden_image=7, hidden_text=20, consistency="reference_bug", beta=0.7)
    assert_same(network, batch_of(1))


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("edges", ["complete", "cooccurrence"])
def test_any_number_of_steps(steps: int, edges: str) -> None:
    assert_same(network_of(steps=steps, edges=edges), batch_of(steps))


@pytest.mark.parametrize("width", [1, 15, 16, 17, 18, 70])
@pytest.mark.parametrize("per_category", [1, 4, 5, 7, 14])
def test_pictures_of_any_width_in_runs_of_any_length(width: int, per_category: int) -> None:
    assert_same(network_of(width=width), batch_of(width, rows=24, width=width, per_category=per_category))


def test_a_wide_state_in_long_runs() -> None:
    """The columns of a matrix are several registers, its rows are added to in several turns."""
    batch = batch_of(5, rows=40, width=30, per_category=14)
    assert max(np.diff(batch.items.bounds)) > 6
    assert_same(network_of(width=30, hidden_image=40, hidden_text=40), batch)


@pytest.mark.parametrize("mean", ["present", "all"])
def test_both_means_of_the_consistency(mean: str) -> None:
    assert_same(network_of(consistency_mean=mean, consistency_weight=2.0), batch_of(6))


@pytest.mark.parametrize("longest", [1, 2])
@pytest.mark.parametrize("edges", ["complete", "mean", "cooccurrence"])
def test_outfits_of_one_node(longest: int, edges: str) -> None:
    batch = batch_of(7, longest=longest)
    assert (batch.outfits.member.sum(-1) == 1).any()
    assert_same(network_of(edges=edges), batch)


@pytest.mark.parametrize("consistency", ["paper", "reference_bug"])
def test_outfits_that_are_the_same(consistency: str) -> None:
    batch = batch_of(8)
    batch.outfits.member[:, 1] = batch.outfits.member[:, 0]
    assert_same(network_of(consistency=consistency), batch)


def test_items_without_words() -> None:
    batch = batch_of(9)
    none = torch.zeros(0, dtype=torch.int64)
    assert_same(network_of(), OutfitBatch(replace(batch.items, words=none, owner=none), batch.outfits))


def test_what_the_slots_without_a_node_say_does_not_matter() -> None:
    batch, network = batch_of(2), network_of()
    expected = by_hand(network, batch, 1.0)
    unused = ~batch.outfits.member.any(1)
    batch.outfits.node[unused], batch.outfits.category[unused] = len(batch.items) - 1, CATEGORIES - 1
    found = by_hand(network, batch, 1.0)
    assert all(torch.equal(found[1][name], value) for name, value in expected[1].items())


@pytest.mark.parametrize("outfits", [1, 2, 5])
@pytest.mark.parametrize("edges", ["complete", "mean", "cooccurrence"])
@pytest.mark.parametrize("modalities", ["image text", "category"])
def test_scores_without_a_gradient(outfits: int, edges: str, modalities: str) -> None:
    network, batch = network_of(modalities, edges=edges), batch_of(4, outfits=outfits)
    expected = network.modality_scores(network.project(batch.items), batch.outfits)
    with torch.no_grad():
        projected = network.project(batch.items)
        found = network.modality_scores(projected, batch.outfits)
        assert found.keys() == expected.keys()
        assert compiled_scores(network, projected, batch.outfits) is not None
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores.detach(), rtol=1e-5, atol=1e-6)


def test_integers_and_halves_of_other_widths_are_read_as_they_are() -> None:
    batch, network = batch_of(10), network_of()
    items, outfits = batch.items, batch.outfits
    assert items.image is not None
    assert items.words is not None
    assert items.owner is not None
    image = items.image.half()
    expected = by_hand(network, OutfitBatch(replace(items, image=image.float()), outfits), 1.0)
    narrow = replace(
        items, image=image, words=items.words.int(), owner=items.owner.int(), category=items.category.int()
    )
    other = OutfitNodes(outfits.node.int(), outfits.category.int(), outfits.member.mT.contiguous().mT)
    found = by_hand(network, OutfitBatch(narrow, other), 1.0)
    assert torch.equal(found[0], expected[0])
    assert all(torch.equal(found[1][name], value) for name, value in expected[1].items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a wrong read ends the process: a child's")
@pytest.mark.parametrize(("width", "hidden"), [(1, 12), (1, 1), (2, 3), (16, 1), (17, 12), (40, 17)])
def test_nothing_behind_a_gradient_is_touched(width: int, hidden: int) -> None:
    library = native.library()
    assert library is not None
    items, page = 13, mmap.PAGESIZE
    held = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(held))
    behind = start + 2 * page
    gradient = behind - 4 * width * hidden
    assert gradient >= start
    bounds, inputs, outputs = torch.tensor([0, items]), torch.randn(items, width), torch.randn(items, hidden)
    places = [tensor.data_ptr() for tensor in (bounds, inputs, outputs)]
    child = os.fork()
    if not child:
        ctypes.CDLL(None).mprotect(ctypes.c_void_p(behind), ctypes.c_size_t(page), 0)
        library.project_runs_backward(1, width, hidden, *places, gradient)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_number_that_is_none_is_seen_in_the_loss() -> None:
    batch = batch_of(11)
    assert batch.items.image is not None
    batch.items.image[int(batch.outfits.node[0, 0])] = float("nan")
    loss, _ = by_hand(network_of(), batch, 1.0)
    assert torch.isnan(loss)


def test_large_numbers_stay_finite() -> None:
    network = network_of()
    for parameter in network.parameters():
        parameter.data *= 100
    loss, found = by_hand(network, batch_of(12), 1.0)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def test_the_same_numbers_again_with_any_number_of_threads() -> None:
    network, batch, threads = network_of(), batch_of(13), torch.get_num_threads()
    expected = by_hand(network, batch, 0.5)
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            loss, found = by_hand(network, batch, 0.5)
            assert torch.equal(loss, expected[0])
            assert all(torch.equal(found[name], gradient) for name, gradient in expected[1].items())
    finally:
        torch.set_num_threads(threads)


def test_memory_that_is_used_again_holds_nothing_of_earlier_batches() -> None:
    network, gradients = network_of(), None
    gradients = NGNNGradients(network)
    for seed, rows in ((0, 30), (1, 4), (2, 17)):
        batch = batch_of(seed, rows=rows)
        fresh = by_hand(network, batch, 1.0)
        network.zero_grad()
        assert torch.equal(gradients(batch, 1.0), fresh[0])
        found = collected(network)
        assert all(torch.equal(found[name], gradient) for name, gradient in fresh[1].items())


@pytest.mark.parametrize(("name", "rows"), [("rmsprop_tf", "touched"), ("adagrad", "touched"), ("sgd", "touched")])
def test_a_few_updates_are_those_of_the_graph(name: str, rows: str) -> None:
    networks = [network_of(seed=4), network_of(seed=4)]
    settings = OptimSettings(name=name, rows=rows, lr=0.01)
    for number, network in enumerate(networks):
        optimizer, _ = make_optimizer(settings, None, kernels="plain")(network.parameter_groups())
        assert isinstance(optimizer, RowOptimizer)
        optimizer.rows_only = number == 1
        gradients = NGNNGradients(network)
        for seed in range(6):
            batch = batch_of(seed)
            optimizer.zero_grad()
            if number:
                gradients(batch, 1 / len(batch))
                optimizer.update()
            else:
                network.loss(batch).mean().backward()
                optimizer.step()
    for (name, expected), found in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_where_they_are_offered(compiled: Path) -> None:
    network = network_of()
    offered = network.gradients_by_hand()
    assert offered is not None
    assert network.gradients_by_hand() is offered
    assert str(offered) == "gradients by hand, compiled loops"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.gradients_by_hand() is None
    assert network_of().double().gradients_by_hand() is None
    kernels.choose("plain", compiled)
    assert network.gradients_by_hand() is None
    kernels.choose("auto")
    assert network.gradients_by_hand() is None
