"""RMSProp on looked-up rows against torch's dense one and TensorFlow's rule in numpy, over many updates."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recexp.config.settings import OptimSettings
from recexp.models import kernels, native
from recexp.models.tables import RowGradient, table_rows
from recexp.training.optimizers import make_optimizer
from recexp.training.row_optimizer import RowOptimizer
from recexp.training.row_rules import RMSProp
from recexp.training.rules_in_place import in_place

ROWS, WIDTH, UPDATES = 60, 3, 300
ROADS = ["dense gradient", "rows", "compiled"]
SETTINGS: list[dict[str, Any]] = [
    {"name": "rmsprop"},
    {"name": "rmsprop", "alpha": 0.9, "eps": 1e-3},
    {"name": "rmsprop_tf"},
    {"name": "rmsprop_tf", "alpha": 0.99, "eps": 1e-2},
]


class Reference:
    """Both rules in float64 on the whole table at every update, as their definitions say."""

    def __init__(self, value: Tensor, name: str, alpha: float | None = None, eps: float | None = None) -> None:
        self.tensorflow = name == "rmsprop_tf"
        usual = (0.9, 1e-10) if self.tensorflow else (0.99, 1e-8)
        self.alpha, self.eps = usual[0] if alpha is None else alpha, usual[1] if eps is None else eps
        self.value = value.detach().double().numpy().copy()
        self.square = np.full_like(self.value, float(self.tensorflow))

    def update(self, gradient: np.ndarray, lr: float) -> None:
        self.square += (1 - self.alpha) * (gradient**2 - self.square)
        if self.tensorflow:
            self.value -= lr * gradient / np.sqrt(self.square + self.eps)
        else:
            self.value -= lr * gradient / (np.sqrt(self.square) + self.eps)


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest) -> Iterator[str]:
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


def made(parameter: nn.Parameter, road: str, **settings: Any) -> RowOptimizer:
    options = OptimSettings(**{"lr": 0.01, "rows": "touched", **settings})
    optimizer = make_optimizer(options, None, kernels="plain")([{"params": [parameter]}])[0]
    assert isinstance(optimizer, RowOptimizer)
    optimizer.rows_only = road != "dense gradient"
    return optimizer


def visits(updates: int = UPDATES) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of each update, some of them twice, most of them rarely; and gradients, of sizes that differ much."""
    draw = torch.Generator().manual_seed(3)
    for _ in range(updates):
        ids = (torch.rand(5, generator=draw) ** 4 * ROWS).long()
        yield (
            ids,
            torch.randn(5, WIDTH, generator=draw, dtype=torch.float64) * 10 ** float(torch.randn(1, generator=draw)),
        )


def looked_up(own: nn.Parameter, optimizer: RowOptimizer, ids: Tensor, weight: Tensor) -> None:
    optimizer.zero_grad()
    (table_rows(own, ids, padded=False) * weight.to(own.dtype)).sum().backward()
    optimizer.step()


def caught_up(own: nn.Parameter, optimizer: RowOptimizer, alpha: float) -> Tensor:
    state = optimizer.state[own]
    return state["square"].double() * alpha ** (state["step"] - state["visited"]).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_leaving_rows_out_changes_nothing(road: str, dtype: torch.dtype, settings: dict[str, Any]) -> None:
    own = start(dtype)
    optimizer, reference = made(own, road, **settings), Reference(own, **settings)
    longest, last = 0, np.zeros(ROWS, int)
    for number, (ids, weight) in enumerate(visits()):
        looked_up(own, optimizer, ids, weight)
        gradient = np.zeros((ROWS, WIDTH))
        np.add.at(gradient, ids.numpy(), weight.to(dtype).double().numpy())
        reference.update(gradient, 0.01)
        longest, last[ids.numpy()] = max(longest, int((number - last[ids.numpy()]).max())), number
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    assert longest > UPDATES // 4
    np.testing.assert_allclose(own.detach().numpy(), reference.value, rtol=tolerance, atol=tolerance)
    found = caught_up(own, optimizer, reference.alpha)
    np.testing.assert_allclose(found.numpy(), reference.square, rtol=10 * tolerance, atol=tolerance * 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_torchs_dense_one(road: str, dtype: torch.dtype) -> None:
    """With a rate that changes, and at times a gradient of every row."""
    own, other = start(dtype), start(dtype)
    mine, theirs = made(own, road, name="rmsprop", alpha=0.95), torch.optim.RMSprop([other], 0.01, 0.95)
    for number, (ids, weight) in enumerate(visits()):
        mine.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.01 / (1 + number % 7)
        mine.zero_grad()
        theirs.zero_grad()
        for parameter, rows in ((own, table_rows(own, ids, padded=False)), (other, other[ids])):
            whole = parameter.cos().sum() if number % 50 == 9 else 0
            ((rows * weight.to(dtype)).sum() + whole).backward()
        if number % 50 == 9:
            # Rows beside those that were noted have a gradient.
            own.looked_up = []  # type: ignore[attr-defined]
            if hasattr(own, "row_gradient"):
                own.grad.index_add_(0, own.row_gradient.rows, own.row_gradient.values)  # type: ignore[union-attr]
                del own.row_gradient
        mine.step()
        theirs.step()
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(own, other, rtol=tolerance, atol=tolerance)
    expected = theirs.state[other]["square_avg"].double()
    torch.testing.assert_close(caught_up(own, mine, 0.95), expected, rtol=10 * tolerance, atol=tolerance * 1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("compiled_loops", [False, True])
def test_tensorflows_rule_by_a_loop(momentum: float, compiled_loops: bool, request: pytest.FixtureRequest) -> None:
    """ApplyRMSProp: ms starts at 1; mom = momentum mom + lr g / sqrt(ms + eps); w -= mom; the rate may change."""
    if compiled_loops:
        kernels.choose("auto", request.getfixturevalue("compiled"))
    native._library.cache_clear()
    own = nn.Parameter(start().detach()[0].clone())
    settings = OptimSettings("rmsprop_tf", lr=0.1, momentum=momentum or None)
    optimizer = make_optimizer(settings, None, kernels="plain")([{"params": [own]}])[0]
    value, square, buffer = own.detach().double().numpy().copy(), np.ones(WIDTH), np.zeros(WIDTH)
    for number in range(30):
        lr = optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
        gradient = np.cos(value) * (number % 3)
        square += 0.1 * (gradient**2 - square)
        buffer = momentum * buffer + lr * gradient / np.sqrt(square + 1e-10)
        value -= buffer
        own.grad = own.detach().cos() * (number % 3)
        optimizer.step()
    kernels.choose("auto")
    native._library.cache_clear()
    np.testing.assert_allclose(own.detach().numpy(), value, rtol=1e-5, atol=1e-6)


def test_torchs_momentum_is_the_rules() -> None:
    own, other = start(torch.float64), start(torch.float64)
    rule, state = RMSProp(0.9, momentum=0.3), RMSProp(0.9, momentum=0.3).start(own)
    theirs = torch.optim.RMSprop([other], 0.01, 0.9, momentum=0.3)
    for number, (_, weight) in enumerate(visits(12)):
        other.grad = (weight[:1] * other.detach()).clone()
        theirs.param_groups[0]["lr"] = 0.01 * number
        rule.apply(own.data, weight[:1] * own.data, state, 0.01 * number, number + 1)
        theirs.step()
    torch.testing.assert_close(own, other)


@pytest.mark.parametrize("name", ["rmsprop", "rmsprop_tf"])
def test_it_goes_on_after_it_was_saved(road: str, name: str, tmp_path: Path) -> None:
    """To the last bit, and with counts that float32 cannot hold."""
    own = start()
    before = made(own, road, name=name)
    before.state[own]["step"] = 2**24
    before.state[own]["visited"].fill_(2**24 - 1)
    visited = list(visits(40))
    for ids, weight in visited[:20]:
        looked_up(own, before, ids, weight)
    torch.save(before.state_dict(), tmp_path / "state.pt")
    other = nn.Parameter(own.detach().clone())
    after = made(other, road, name=name)
    after.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(after.state[other]["visited"], before.state[own]["visited"])
    copied = copy.deepcopy(after.state_dict())
    for ids, weight in visited[20:]:
        looked_up(own, before, ids, weight)
        looked_up(other, after, ids, weight)
    assert torch.equal(own, other)
    # What was loaded is nobody else's.
    after.load_state_dict(copied)
    after.state[other]["visited"].zero_()
    assert copied["state"][0]["visited"].any()


@pytest.mark.parametrize("width", [1, 12, 257, 1000])
@pytest.mark.parametrize("in_root", [False, True])
def test_compiled_loops_are_the_rule(width: int, in_root: bool, compiled: Path) -> None:
    """Some rows, all rows, and what has no rows."""
    native._library.cache_clear()
    kernels.choose("auto", compiled)
    rule = RMSProp(0.9, 1e-3, initial=0.1, eps_in_root=in_root, lazy=True)
    loops = in_place(rule)
    kernels.choose("auto")
    native._library.cache_clear()
    assert loops is not None
    draw = torch.Generator().manual_seed(width)
    table, rows = torch.randn(50, width, generator=draw), torch.randperm(50, generator=draw)[:30]
    state = {
        "square": torch.rand(50, width, generator=draw),
        "visited": torch.randint(0, 20, (50, 1), generator=draw, dtype=torch.int32),
    }
    value, kept = table.clone(), {name: tensor.clone() for name, tensor in state.items()}
    gradient = torch.randn(30, width, generator=draw)
    moved, visited = table[rows], {name: tensor[rows] for name, tensor in state.items()}
    rule.apply(moved, gradient, visited, 0.1, 21)
    table[rows] = moved
    for name, tensor in visited.items():
        state[name][rows] = tensor
    loops.rows(value, RowGradient(rows, gradient), kept, 0.1, 21)
    for _ in range(2):
        torch.testing.assert_close(value, table, rtol=1e-5, atol=2e-6)
        for name in state:
            torch.testing.assert_close(kept[name], state[name], rtol=1e-5, atol=1e-7)
        everything = torch.randn(50, width, generator=draw)
        rule.apply(table, everything, state, 0.1, 22)
        assert loops.whole(value, everything, kept, 0.1, 22)
    flat, square = torch.randn(width, generator=draw), torch.rand(width, generator=draw)
    also, also_square, given = flat.clone(), square.clone(), torch.randn(width, generator=draw)
    rule.apply(flat, given, {"square": square}, 0.1, 5)
    assert loops.whole(also, given, {"square": also_square}, 0.1, 5)
    torch.testing.assert_close(also, flat)
    torch.testing.assert_close(also_square, square)
