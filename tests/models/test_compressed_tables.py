"""Quotient-remainder and mixed-dimension tables against their definitions, id by id."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from click_cases import FIELDS, SINGLE, bags, random_batch, row_of, same, scattered
from torch import Tensor

from recexp.datasets.impressions import Field
from recexp.models.compressed_tables import MixedDimensionTables, QuotientRemainderTables, mixed_dimensions


def pooled(rows: list[Tensor], pooling: str, width: int) -> Tensor:
    if not rows:
        return torch.zeros(width, dtype=torch.float64)
    return torch.stack(rows).sum(0) if pooling == "sum" else torch.stack(rows).mean(0)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("operation", ["mult", "add", "concat"])
@pytest.mark.parametrize("fields", [SINGLE, FIELDS], ids=["single", "bags"])
def test_quotient_remainder_by_definition(fields: tuple[Field, ...], operation: str, pooling: str) -> None:
    tables = scattered(
        QuotientRemainderTables(fields, 6, pooling, threshold=6, collisions=4, operation=operation), scale=0.9
    )
    small = [n for n, field in enumerate(fields) if field.size <= 6]
    large = [n for n, field in enumerate(fields) if field.size > 6]
    full, compressed = tables.parts
    batch = random_batch(fields, 0)
    width = 3 if operation == "concat" else 6
    rows = []
    for row in range(len(batch)):
        vectors = []
        for number, ids in enumerate(bags(batch, fields, row)):
            if number in small:
                vectors.append(pooled([row_of(full.tables, small.index(number), i) for i in ids], pooling, 6))
                continue
            at = large.index(number)
            q = pooled([row_of(compressed.quotient, at, i // 4) for i in ids], pooling, width)
            r = pooled([row_of(compressed.remainder, at, i % 4) for i in ids], pooling, width)
            vectors.append({"mult": q * r, "add": q + r, "concat": torch.cat((q, r))}[operation])
        rows.append(torch.stack(vectors))
    found, expected = tables(batch.ids), torch.stack(rows)
    assert found.shape == (len(batch), len(fields), 6)
    same(tables, found.flatten(1).sum(1), expected.flatten(1).sum(1))
    torch.testing.assert_close(found, expected)


def test_quotient_remainder_takes_the_rows_that_it_says() -> None:
    tables = QuotientRemainderTables((Field("a", 200), Field("b", 201)), 8)
    assert [tuple(p.shape) for p in tables.parameters()] == [(200, 8), (math.ceil(201 / 4), 8), (4, 8)]
    tables.initialise()
    _, compressed = tables.parts
    bound = math.sqrt(1 / 201)
    for part in (compressed.quotient.table, compressed.remainder.table):
        assert bound <= float(part.detach().min()) < float(part.detach().max()) <= 1


@pytest.mark.parametrize("fields", [SINGLE, FIELDS], ids=["single", "bags"])
def test_mixed_dimension_by_definition(fields: tuple[Field, ...]) -> None:
    tables = scattered(MixedDimensionTables(fields, 8, threshold=6, temperature=0.3))
    sizes = [field.size for field in fields]
    # Fields up to the threshold keep the width, whatever the rule says.
    widths = [8 if n <= 6 else max(1, round(8 * (min(sizes) / n) ** 0.3)) for n in sizes]
    assert len({part.tables.width for part in tables.parts}) == len(set(widths)) > 2
    batch = random_batch(fields, 0)
    rows = []
    for row in range(len(batch)):
        vectors = []
        for number, ids in enumerate(bags(batch, fields, row)):
            part = next(part for part in tables.parts if number in part.chosen)
            at, width = part.chosen.index(number), widths[number]
            assert part.tables.width == width
            own = pooled([row_of(part.tables, at, i) for i in ids], "sum", width)
            vectors.append(own if width == 8 else own @ part.projection[at])
        rows.append(torch.stack(vectors))
    found, expected = tables(batch.ids), torch.stack(rows)
    torch.testing.assert_close(found, expected)
    same(tables, found.flatten(1).sum(1), expected.flatten(1).sum(1))


@pytest.mark.parametrize("powers", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_widths_by_the_rule(temperature: float, powers: bool) -> None:
    sizes = [1460, 583, 10131227, 305, 24, 3, 93145, 27, 10, 4, 7046547, 18]
    n = np.array(sizes, dtype=np.float64)
    widths = np.maximum(16 * n.min() ** temperature * n**-temperature, 1)
    widths = np.round(widths)
    if powers:
        widths = 2.0 ** np.round(np.log2(widths))
    assert mixed_dimensions(sizes, 16, temperature, powers_of_two=powers) == widths.astype(int).tolist()


def test_rounding_to_powers_of_two_does_not_exceed_the_width() -> None:
    assert mixed_dimensions([3, 3], 12, 0.3, powers_of_two=True) == [12, 12]


def test_mixed_dimension_initial_values() -> None:
    tables = MixedDimensionTables((Field("a", 10), Field("b", 1000)), 16)
    tables.initialise()
    full, narrow = tables.parts
    assert float(full.tables.table.detach().abs().max()) <= math.sqrt(1 / 10)
    assert float(narrow.tables.table.detach().abs().max()) <= math.sqrt(1 / 1000)
    assert 0 < float(narrow.projection.detach().abs().max()) <= math.sqrt(6 / (16 + narrow.tables.width))
