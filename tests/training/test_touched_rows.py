"""Optimisers on looked-up rows against torch's dense and sparse ones and against loops; by torch and compiled code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional

from recexp.config.settings import OptimSettings
from recexp.models import kernels, native
from recexp.models.tables import RowGradient, table_rows
from recexp.training.optimizers import make_optimizer
from recexp.training.row_optimizer import RowOptimizer
from recexp.training.row_rules import SGD, Adagrad, LazyAdam, RowwiseAdagrad, Rule
from recexp.training.rules_in_place import in_place

ROWS, WIDTH = 40, 5
NAMES = ["sgd", "adagrad", "rowwise_adagrad", "lazy_adam", "adagrad_momentum", "rmsprop", "rmsprop_tf"]
ROADS = ["dense gradient", "rows", "compiled"]


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """How a gradient gets to the optimiser, and who computes the update."""
    if request.param == "compiled":
        folder: Path = request.getfixturevalue("compiled")
        native._library.cache_clear()
        kernels.choose("auto", folder)
        assert native.library() is not None
    yield request.param
    native._library.cache_clear()
    kernels.choose("auto")


def start(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    draw = torch.Generator().manual_seed(1)
    return nn.Parameter(torch.randn(ROWS, WIDTH, generator=draw, dtype=torch.float64).to(dtype))


def made(parameters: list[nn.Parameter], road: str, **settings: Any) -> RowOptimizer:
    options = OptimSettings(**{"lr": 0.1, "rows": "touched", **settings})
    optimizer = make_optimizer(options, None, kernels="plain")([{"params": parameters}])[0]
    assert isinstance(optimizer, RowOptimizer)
    optimizer.rows_only = road != "dense gradient"
    return optimizer


def batches(updates: int = 6) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids [4, 6] with duplicates, and a weight for each row."""
    draw = torch.Generator().manual_seed(3)
    for _ in range(updates):
        yield (
            (torch.rand(4, 6, generator=draw) ** 3 * ROWS).long(),
            torch.randn(4, 6, WIDTH, generator=draw, dtype=torch.float64),
        )


def trained(own: nn.Parameter, optimizer: torch.optim.Optimizer, gather: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for ids, weight in batches():
        optimizer.zero_grad()
        (gather(own, ids).sin() * weight.to(own.dtype)).sum().backward()
        optimizer.step()
    return own.detach()


def ours(own: nn.Parameter, ids: Tensor) -> Tensor:
    return table_rows(own, ids.int(), padded=False)


def dense(own: Tensor, ids: Tensor) -> Tensor:
    return functional.embedding(ids, own)


def sparse(own: Tensor, ids: Tensor) -> Tensor:
    return functional.embedding(ids, own, sparse=True)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("settings", "gather", "torchs"),
    [
        ({"name": "sgd"}, dense, lambda p: torch.optim.SGD(p, 0.1)),
        ({"name": "sgd"}, sparse, lambda p: torch.optim.SGD(p, 0.1)),
        ({"name": "adagrad", "eps": 1e-3}, dense, lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-3)),
        ({"name": "adagrad", "eps": 1e-3}, sparse, lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-3)),
        (
            {"name": "lazy_adam", "beta1": 0.8, "eps": 1e-3},
            sparse,
            lambda p: torch.optim.SparseAdam(p, 0.1, (0.8, 0.999), 1e-3),
        ),
    ],
    ids=["sgd-dense", "sgd-sparse", "adagrad-dense", "adagrad-sparse", "lazy_adam-sparse_adam"],
)
def test_equal_to_torchs(
    road: str, dtype: torch.dtype, settings: dict[str, Any],
    gather: Callable[[Tensor, Tensor], Tensor], torchs: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> None:  # fmt: skip
    own, other = start(dtype), start(dtype)
    mine = trained(own, made([own], road, **settings), ours)
    theirs = trained(other, torchs([other]), gather)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
    untouched = torch.ones(ROWS, dtype=torch.bool)
    untouched[torch.cat([ids.reshape(-1) for ids, _ in batches()])] = False
    assert untouched.any()
    assert torch.equal(mine[untouched], start(dtype).detach()[untouched])


def test_rowwise_adagrad_by_a_loop(road: str) -> None:
    """RWSAdagrad: one sum a row, of the mean square of the row's gradient."""
    own = start()
    optimizer = made([own], road, name="rowwise_adagrad", initial_accumulator=0.1, eps=1e-4)
    value, total = start().detach().double().numpy(), np.full(ROWS, 0.1)
    for ids, weight in batches():
        gradient = np.zeros((ROWS, WIDTH))
        for row, own_weight in zip(ids.reshape(-1).tolist(), weight.reshape(-1, WIDTH).numpy(), strict=True):
            gradient[row] += np.cos(value[row]) * own_weight
        for row in set(ids.reshape(-1).tolist()):
            total[row] += np.mean(gradient[row] ** 2)
            value[row] -= 0.1 * gradient[row] / (np.sqrt(total[row]) + 1e-4)
    mine = trained(own, optimizer, ours)
    torch.testing.assert_close(mine.double(), torch.from_numpy(value), rtol=1e-5, atol=1e-5)
    assert optimizer.state[own]["row_sum"].shape == (ROWS, 1)
    whole = start()
    every = trained(whole, made([whole], "dense gradient", name="rowwise_adagrad", rows="all",
                                initial_accumulator=0.1, eps=1e-4), ours)  # fmt: skip
    torch.testing.assert_close(every, mine, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lazy_adam", "rowwise_adagrad"])
@pytest.mark.parametrize("way", ["fused", "plain"])
def test_what_is_no_table_gets_the_plain_rule(name: str, way: str) -> None:
    weights, others = ([nn.Parameter(start().detach()[:3, :2].clone()), nn.Parameter(torch.ones(2))] for _ in range(2))
    options = OptimSettings(name, lr=0.1, rows="touched")
    mine = make_optimizer(options, None, kernels=way)([{"params": weights}])[0]
    theirs = torch.optim.Adam(others, 0.1) if name == "lazy_adam" else torch.optim.Adagrad(others, 0.1)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        for optimizer, (weight, bias) in ((mine, weights), (theirs, others)):
            optimizer.zero_grad()
            (x @ weight + bias).sin().sum().backward()
            optimizer.step()
    for own, other in zip(weights, others, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_accumulated_batches_are_one_update(road: str, name: str) -> None:
    parts, whole = start(), start()
    one, other = made([parts], road, name=name), made([whole], road, name=name)
    for ids, weight in batches(3):
        weight = weight.float()
        one.zero_grad()
        other.zero_grad()
        for part in range(4):
            (ours(parts, ids[part]) * weight[part]).sum().backward()
        (ours(whole, ids) * weight).sum().backward()
        one.step()
        other.step()
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


def test_row_zero_that_pads_gets_no_gradient(road: str) -> None:
    own = start()
    optimizer = made([own], road, name="adagrad")
    table_rows(own, torch.tensor([[0, 3], [0, 0]]), padded=True).sum().backward()
    optimizer.step()
    assert torch.equal(own.detach()[0], start().detach()[0])
    assert not torch.equal(own.detach()[3], start().detach()[3])


def test_no_gradient_of_the_tables_size_where_the_optimiser_is_alone(road: str) -> None:
    own = start()
    optimizer = made([own], road, name="sgd")
    for _ in range(2):
        optimizer.zero_grad()
        assert not hasattr(own, "row_gradient")
        ours(own, torch.tensor([1, 1, 2])).sum().backward()
        assert (own.grad is None) == (road != "dense gradient")
        assert hasattr(own, "row_gradient") == (road != "dense gradient")
        optimizer.step()
    # Whoever has to see the gradient sees it from the next update on.
    optimizer.rows_only = False
    optimizer.zero_grad()
    ours(own, torch.tensor([1, 1, 2])).sum().backward()
    assert own.grad is not None
    assert own.grad[1].tolist() == [2.0] * WIDTH


def test_a_table_that_is_also_used_otherwise(road: str) -> None:
    own, other = start(), start()
    mine, theirs = made([own], road, name="adagrad"), torch.optim.Adagrad([other], 0.1)
    ids = torch.arange(ROWS)
    for _ in range(3):
        mine.zero_grad()
        theirs.zero_grad()
        (ours(own, ids).sin() + own.cos()).sum().backward()
        (other.sin() + other.cos()).sum().backward()
        mine.step()
        theirs.step()
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("width", [1, 16, 17, 40])
@pytest.mark.parametrize(
    "rule",
    [SGD(), Adagrad(1e-3), RowwiseAdagrad(1e-3), LazyAdam(0.7, 0.99, 1e-3)],
    ids=lambda rule: type(rule).__name__,
)
def test_compiled_loops_are_the_rules(rule: Rule, width: int, compiled: Path) -> None:
    native._library.cache_clear()
    kernels.choose("auto", compiled)
    loops = in_place(rule)
    kernels.choose("auto")
    native._library.cache_clear()
    assert loops is not None
    draw = torch.Generator().manual_seed(width)
    table = torch.randn(5000, width, generator=draw)
    ids = (torch.rand(3000, generator=draw) ** 4 * 5000).long()
    given = RowGradient(ids, torch.randn(3000, width, generator=draw), distinct=False)
    summed, expected = loops.summed(given), given.summed()
    order = summed.rows.argsort()
    assert torch.equal(summed.rows[order], expected.rows)
    assert torch.equal(summed.values[order], expected.values)
    assert len(summed.rows) < 2500
    whole = {name: torch.rand(tensor.shape, generator=draw) for name, tensor in rule.start(table).items()}
    value, state = table.clone(), {name: tensor.clone() for name, tensor in whole.items()}
    visited = {name: tensor[expected.rows] for name, tensor in whole.items()}
    moved = table[expected.rows]
    rule.apply(moved, expected.values, visited, 0.1, 7)
    loops.rows(value, given if isinstance(rule, SGD) else summed, state, 0.1, 7)
    table[expected.rows] = moved
    torch.testing.assert_close(value, table, rtol=1e-5, atol=2e-5)
    for name, tensor in visited.items():
        whole[name][expected.rows] = tensor
        torch.testing.assert_close(state[name], whole[name], rtol=1e-5, atol=1e-6)


def test_rows_that_fall_into_one_place_are_kept_apart(compiled: Path) -> None:
    """Numbers so far apart that what the places are computed from is the same for many."""
    native._library.cache_clear()
    kernels.choose("auto", compiled)
    loops = in_place(SGD())
    kernels.choose("auto")
    native._library.cache_clear()
    assert loops is not None
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(2**60, (1500,), generator=draw)[torch.randint(1500, (3000,), generator=draw)]
    given = RowGradient(rows, torch.randn(3000, 3, generator=draw), distinct=False)
    summed, expected = loops.summed(given), given.summed()
    order = summed.rows.argsort()
    assert torch.equal(summed.rows[order], expected.rows)
    assert torch.equal(summed.values[order], expected.values)


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_come_by_hand_are_rows_of_a_table(road: str, name: str) -> None:
    """Nothing is noted of them."""
    own, other = start(), start()
    by_hand, graph = made([own], road, name=name), made([other], road, name=name)
    for ids in ([3, 1], [7, 3]):
        by_hand.zero_grad()
        graph.zero_grad()
        RowGradient(torch.tensor(ids), own.detach()[ids].cos()).leave_at(own)
        ours(other, torch.tensor(ids)).sin().sum().backward()
        by_hand.update()
        graph.update()
        torch.testing.assert_close(own, other)


def test_no_rows_at_all(road: str) -> None:
    own = start()
    optimizer = made([own], road, name="adagrad")
    ours(own, torch.zeros(0, dtype=torch.int64)).sum().backward()
    optimizer.step()
    assert torch.equal(own, start())


def process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in NAMES:
        network = nn.ParameterDict({"table": start()})
        optimizer = made([network["table"]], "dense gradient", name=name, lr=0.1)
        for ids, weight in batches(4):
            optimizer.zero_grad()
            own = slice(rank, None, 2)
            (ours(network["table"], ids[own]).sin() * weight[own].float()).sum().backward()
            assert network["table"].grad is not None
            distributed.all_reduce(network["table"].grad)
            optimizer.step()
        torch.save(network["table"].detach(), Path(folder) / f"{name}-{rank}.pt")
    distributed.destroy_process_group()


def test_rows_looked_up_in_two_processes(tmp_path: Path) -> None:
    multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    for name in NAMES:
        own = start()
        optimizer = made([own], "dense gradient", name=name, lr=0.1)
        for ids, weight in batches(4):
            optimizer.zero_grad()
            (ours(own, ids).sin() * weight.float()).sum().backward()
            optimizer.step()
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in range(2))
        assert torch.equal(first, second)
        torch.testing.assert_close(first, own.detach(), rtol=1e-5, atol=1e-6)
