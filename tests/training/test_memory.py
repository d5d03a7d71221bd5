"""What a training needs at least, against what its optimiser really keeps; and the refusal of what cannot fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recexp.config.rules import OPTIMISER_OPTIONS, rows_problem
from recexp.config.settings import OptimSettings
from recexp.errors import DeviceError
from recexp.models.tables import table_rows
from recexp.training.memory import assert_room, needed
from recexp.training.optimizers import make_optimizer


class Network(nn.Module):
    """A table that is gathered from, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(1000, 8))
        self.layer = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layer(table_rows(self.table, ids, padded=False)).sum()


@pytest.mark.parametrize("rows", ["all", "touched"])
@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("name", sorted(OPTIMISER_OPTIONS))
def test_states_are_what_the_optimiser_keeps(name: str, momentum: float | None, rows: str) -> None:
    if momentum and "momentum" not in OPTIMISER_OPTIONS[name]:
        pytest.skip("the configuration refuses it")
    if (rows == "touched" and rows_problem(name, momentum)) or (rows == "all" and name == "lazy_adam"):
        pytest.skip("the configuration refuses it")
    settings = OptimSettings(name=name, rows=rows, momentum=momentum)
    need = needed(Network, settings)
    made = Network()
    optimizer, _ = make_optimizer(settings, None, kernels="plain")([{"params": list(made.parameters())}])
    made(torch.tensor([3, 5])).backward()
    optimizer.step()
    kept = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    layer = sum(p.numel() * 4 for p in made.layer.parameters())
    found = sum(v.numel() * 4 for v in kept if v.shape in {p.shape for p in made.parameters()})
    found += sum(v.numel() * v.element_size() for v in kept if v.dtype == torch.int32)
    # The sums of rows are a part of a table's size; those of layers, which are whole, are not counted either.
    assert need.states == found - (layer if name == "rowwise_adagrad" else 0)
    assert need.weights == 4 * 8000 + layer
    assert need.gradients == (4 * 8000 + layer if rows == "all" else 4 * 3)


def test_nothing_is_allocated_and_nothing_is_drawn() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    need = needed(lambda: nn.Embedding(10**9, 1000), OptimSettings(name="adam"))
    assert need.weights == 4 * 10**12
    assert need.total == 16 * 10**12
    assert torch.equal(torch.get_rng_state(), before)


def test_the_refusal_shows_the_arithmetic() -> None:
    settings = OptimSettings(name="adam")
    with pytest.raises(DeviceError) as told:
        assert_room(lambda: nn.Embedding(1 << 24, 16), settings, free=3 << 30, host=100 << 30, where="npu:0")
    text = str(told.value)
    assert "weights 1.00 GiB (weight 16,777,216 x 16) + their gradients 1.00 GiB + what adam keeps 2.00 GiB" in text
    assert "= 4.00 GiB" in text
    assert "npu:0 has 3.00 GiB free" in text
    assert_room(lambda: nn.Embedding(1 << 24, 16), settings, free=5 << 30, host=100 << 30, where="npu:0")
    assert_room(lambda: nn.Embedding(1 << 24, 16), settings, free=None, host=2 << 30, where="mps")
    with pytest.raises(DeviceError, match="the host"):
        assert_room(lambda: nn.Embedding(1 << 24, 16), settings, free=None, host=1 << 20, where="npu:0")
    touched = OptimSettings(name="sgd", rows="touched")
    assert_room(lambda: nn.Embedding(1 << 24, 16), touched, free=(1 << 30) + 1, host=100 << 30, where="cpu")


def test_where_rows_are_visited_alone_others_may_need_the_gradient_whole() -> None:
    """Devices other than a processor, several processes, clipping."""
    touched = OptimSettings(name="sgd", rows="touched")
    with pytest.raises(
        DeviceError, match=r"weights 1\.00 GiB .* \+ their gradients 1\.00 GiB = 2\.00 GiB, and cuda:0 has"
    ):
        assert_room(
            lambda: nn.Embedding(1 << 24, 16), touched, free=(2 << 30) - 1, host=100 << 30, where="cuda:0",
            row_gradients=False,
        )  # fmt: skip
