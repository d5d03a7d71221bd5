"""What the tests of click models share: golden cases by name, random batches, gradients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recexp.datasets.impressions import Field
from recexp.problems.click import ClickBatch, ClickSizes

GOLDEN = Path(__file__).parents[1] / "golden"
#: Single ids, bags of up to three, and a field with one id only.
FIELDS = (Field("site", 7), Field("words", 11, slots=3), Field("one", 1), Field("user", 300))
SINGLE = tuple(Field(f"C{n}", size) for n, size in enumerate((5, 1, 300, 12)))


@cache
def golden(system: str) -> dict[str, dict[str, Any]]:
    """The hand-computed cases of a system, by name."""
    return {case["name"]: case for case in json.loads((GOLDEN / f"{system}.json").read_text())["cases"]}


def random_batch(fields: Sequence[Field], num_dense: int, rows: int = 9, seed: int = 0) -> ClickBatch:
    """Float64 numbers, int32 ids; some slots of bags are unused, and in row 0 all of them are."""
    draw = torch.Generator().manual_seed(seed)
    columns = []
    for field in fields:
        own = torch.randint(0, field.size, (rows, field.slots), generator=draw)
        if field.slots > 1:
            used = torch.randint(0, field.slots + 1, (rows, 1), generator=draw)
            used[0] = 0
            own = torch.where(torch.arange(field.slots) < used, own, -1)
        columns.append(own)
    label = torch.randint(0, 2, (rows,), generator=draw).double()
    dense = torch.randn(rows, num_dense, generator=draw, dtype=torch.float64)
    return ClickBatch(label, dense, torch.cat(columns, dim=1).to(torch.int32))


def sizes(fields: Sequence[Field], num_dense: int) -> ClickSizes:
    """Of such a batch."""
    return ClickSizes(fields, num_dense)


def scattered(network: nn.Module, seed: int = 1, scale: float = 0.4) -> nn.Module:
    """The same network in float64 with parameters that are far from their small initial values; padding stays zero."""
    torch.manual_seed(seed)
    network = network.double()
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, std=scale)
        owner = network.get_submodule(name.rpartition(".")[0])
        if name.endswith("table") and not owner.single:
            parameter.detach()[0].zero_()
    return network


def row_of(tables: nn.Module, field: int, number: int) -> Tensor:
    """The row of one id, differentiable, found without the offsets that the network uses."""
    start = (0 if tables.single else 1) + sum(other.size for other in tables.fields[:field])
    return tables.table[start + number]


def bags(batch: ClickBatch, fields: Sequence[Field], row: int) -> list[list[int]]:
    """The ids of each field of a row."""
    values, found = iter(batch.ids[row].tolist()), []
    for field in fields:
        own = [next(values) for _ in range(field.slots)]
        found.append([value for value in own if value >= 0])
    return found


def gradients(network: nn.Module, total: Tensor) -> dict[str, Tensor]:
    """Of every parameter, by name."""
    network.zero_grad(set_to_none=True)
    total.backward(retain_graph=True)
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def same(network: nn.Module, found: Tensor, expected: Tensor) -> None:
    """Equal values, and equal gradients of a weighted sum of them, in every parameter."""
    torch.testing.assert_close(found, expected)
    weights = torch.linspace(0.5, 1.5, len(found), dtype=found.dtype)
    own, other = (gradients(network, (value * weights).sum()) for value in (found, expected))
    assert set(own) == set(other)
    for name, gradient in own.items():
        torch.testing.assert_close(gradient, other[name], msg=lambda text, name=name: f"{name}: {text}")
