"""Rules of optimisers against torch's own, and visits to looked-up rows against updates of the whole table."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recexp.config.settings import OptimSettings
from recexp.errors import ConfigError
from recexp.models.tables import RowGradient, table_rows
from recexp.training import row_rules
from recexp.training.optimizers import make_optimizer
from recexp.training.row_optimizer import RowOptimizer

GOLDEN = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "golden" / "gru4rec.json").read_text())["cases"]
}


def table(rows: int = 6) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


def made(parameter: nn.Parameter, **settings: Any) -> torch.optim.Optimizer:
    return make_optimizer(OptimSettings(**settings), None, kernels="plain")([{"params": [parameter]}])[0]


RULES: list[tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = [
    ({"name": "adagrad", "lr": 0.1}, lambda p: torch.optim.Adagrad(p, 0.1)),
    (
        {"name": "adagrad", "lr": 0.1, "initial_accumulator": 0.2, "eps": 1e-3},
        lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.2, eps=1e-3),
    ),
    ({"name": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, 0.1)),
]


@pytest.mark.parametrize(("settings", "torchs"), RULES, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_where_all_rows_are_looked_up_the_rules_are_torchs(
    settings: dict[str, Any], torchs: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> None:
    own, other = table(), table()
    mine, theirs = made(own, rows="touched", **settings), torchs([other])
    draw = torch.Generator().manual_seed(2)
    for _ in range(6):
        weight = torch.randn(6, 3, generator=draw, dtype=torch.float64)
        mine.zero_grad()
        theirs.zero_grad()
        (table_rows(own, torch.tensor([5, 0, 1, 2, 3, 4]), padded=False)[[1, 2, 3, 4, 5, 0]] * weight).sum().backward()
        (other * weight).sum().backward()
        mine.step()
        theirs.step()
        torch.testing.assert_close(own, other)


def test_golden_adagrad_with_momentum() -> None:
    case = GOLDEN["adagrad_momentum"]
    inputs = case["input"]
    parameter = nn.Parameter(torch.tensor(inputs["p0"], dtype=torch.float64))
    optimizer = made(
        parameter, name="adagrad_momentum", lr=inputs["lr"], momentum=inputs["momentum"], eps=inputs["eps"]
    )
    for gradient, expected in zip(inputs["grads"], case["expected"]["p_after_each_step"], strict=True):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        torch.testing.assert_close(
            parameter.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "name", ["adagrad_momentum", "lazy_adam", "sgd", "rowwise_adagrad", "adagrad", "rmsprop", "rmsprop_tf"]
)
def test_rows_that_are_not_looked_up_rest(name: str) -> None:
    """Their value, their momentum and their sums; also when they come back later."""
    momentum = {"momentum": 0.9} if name == "adagrad_momentum" else {}
    own = table()
    optimizer = made(own, name=name, lr=0.1, rows="touched", **momentum)
    dense = {row: nn.Parameter(own.detach()[row].clone()) for row in range(6)}
    for step, ids in enumerate([[1, 2, 2], [2, 4], [1, 5, 1], [2]]):
        optimizer.zero_grad()
        before = own.detach().clone()
        rows = table_rows(own, torch.tensor(ids), padded=False)
        (rows * torch.arange(1, len(ids) + 1)[:, None]).sum().backward()
        optimizer.step()
        moved = (own.detach() != before).any(1).nonzero().squeeze(1).tolist()
        assert moved == sorted(set(ids)), step
    assert torch.equal(own.detach()[[0, 3]], torch.stack([dense[0], dense[3]]))


def test_an_item_twice_in_a_batch_counts_with_the_sum_of_its_gradients() -> None:
    twice, once = table(), table()
    for own, ids, weight in ((twice, [2, 2], [[1.0], [3.0]]), (once, [2], [[4.0]])):
        optimizer = made(own, name="adagrad_momentum", lr=0.1, momentum=0.5, rows="touched")
        for _ in range(3):
            optimizer.zero_grad()
            (table_rows(own, torch.tensor(ids), padded=False) * torch.tensor(weight)).sum().backward()
            optimizer.step()
    torch.testing.assert_close(twice, once)


def test_accumulated_batches_are_one_update() -> None:
    parts, whole = table(), table()
    one = made(parts, name="adagrad_momentum", lr=0.1, momentum=0.5, rows="touched")
    other = made(whole, name="adagrad_momentum", lr=0.1, momentum=0.5, rows="touched")
    for _ in range(2):
        one.zero_grad()
        other.zero_grad()
        table_rows(parts, torch.tensor([1]), padded=False).sum().backward()
        (table_rows(parts, torch.tensor([1, 3]), padded=False) * 2).sum().backward()
        (table_rows(whole, torch.tensor([1, 3]), padded=False) * torch.tensor([[3.0], [2.0]])).sum().backward()
        one.step()
        other.step()
    torch.testing.assert_close(parts, whole)


def test_a_gradient_given_as_rows_is_the_same_update() -> None:
    given, graph = table(), table()
    one, other = (made(p, name="adagrad_momentum", lr=0.1, momentum=0.5, rows="touched") for p in (given, graph))
    assert isinstance(one, RowOptimizer)
    ids, values = torch.tensor([4, 1]), torch.tensor([[1.0, 2, 3], [4, 5, 6]], dtype=torch.float64)
    for _ in range(3):
        RowGradient(ids, values).leave_at(given)
        one.update()
        one.zero_grad()
        other.zero_grad()
        (table_rows(graph, ids, padded=False) * values).sum().backward()
        other.step()
    torch.testing.assert_close(given, graph)
    assert not hasattr(given, "row_gradient")


@pytest.mark.parametrize("name", ["lazy_adam", "rowwise_adagrad", "rmsprop", "rmsprop_tf"])
def test_the_state_goes_on_after_it_was_saved(name: str) -> None:
    def run(parameter: nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for number in range(steps):
            optimizer.zero_grad()
            table_rows(parameter, torch.tensor([number, 5]), padded=False).square().sum().backward()
            optimizer.step()

    whole, first = table(), table()
    settings = {"name": name, "lr": 0.1, "rows": "touched"}
    run(whole, made(whole, **settings), 2)
    before = made(first, **settings)
    run(first, before, 2)
    second = nn.Parameter(first.detach().clone())
    after = made(second, **settings)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    run(first, before, 2)
    run(second, after, 2)
    assert torch.equal(first, second)


def test_what_is_not_a_table_is_updated_whole() -> None:
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = RowOptimizer([{"params": [weight, bias]}], row_rules.SGD(), lr=1.0, touched=True)
    (weight.sum() + bias.sum()).backward()
    optimizer.step()
    assert not weight.any()
    assert not bias.any()


def test_a_penalty_on_all_rows_contradicts_visits_to_some() -> None:
    make = make_optimizer(OptimSettings("adagrad", rows="touched"), None, kernels="plain")
    with pytest.raises(ConfigError, match=r"optim\.rows=touched: the model's penalty"):
        make([{"params": [table()], "l2": 0.1}])
    make([{"params": [table()], "l2": 0.1, "tables": False}])
    everything = make_optimizer(OptimSettings("adagrad"), None, kernels="plain")
    with pytest.raises(ConfigError, match=r"optim\.rows=all: the model's penalty .* is that of looked-up rows"):
        everything([{"params": [table()], "l2": 0.1, "l2_rows": "touched"}])


@pytest.mark.parametrize(("name", "momentum"), [("adam", None), ("rmsprop", 0.9), ("rmsprop_tf", 0.9), ("sgd", 0.9)])
def test_what_cannot_visit_some_rows_is_not_made(name: str, momentum: float | None) -> None:
    with pytest.raises(ConfigError, match=f"optim.name={name}.* with optim.rows=touched"):
        made(table(), name=name, momentum=momentum, rows="touched")


@pytest.mark.parametrize("name", ["sgd", "adagrad", "lazy_adam"])
def test_the_penalty_of_looked_up_rows_is_that_of_each_of_them_once(name: str) -> None:
    l2 = 0.3
    own, other = table(), table()
    settings = OptimSettings(name, lr=0.1, rows="touched")
    mine = make_optimizer(settings, None, kernels="plain")([{"params": [own], "l2": l2, "l2_rows": "touched"}])[0]
    theirs = made(other, name=name, lr=0.1, rows="touched")
    for rows_only in (False, True):
        mine.rows_only = theirs.rows_only = rows_only  # type: ignore[attr-defined]
        for ids in ([4, 1, 4], [2, 4]):
            mine.zero_grad()
            theirs.zero_grad()
            table_rows(own, torch.tensor(ids), padded=False).sin().sum().backward()
            penalty = l2 * table_rows(other, torch.tensor(sorted(set(ids))), padded=False).square().sum()
            (table_rows(other, torch.tensor(ids), padded=False).sin().sum() + penalty).backward()
            mine.step()
            theirs.step()
            torch.testing.assert_close(own, other)


def test_what_is_no_table_is_decayed_whole() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    make = make_optimizer(OptimSettings("sgd", lr=0.5, rows="touched"), None, kernels="plain")
    optimizer = make([{"params": [weight], "l2": 0.1, "tables": False}])[0]
    (weight[0] * 0).sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.9))
