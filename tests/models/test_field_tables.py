"""The fused table against one nn.EmbeddingBag a field: values, gradients, pads, large ids."""

from __future__ import annotations

import pytest
import torch
from click_cases import FIELDS, SINGLE, bags, golden, gradients, random_batch, scattered
from torch import nn

from recexp.datasets.impressions import Field
from recexp.models.field_tables import FieldTables


@pytest.mark.parametrize("fields", [SINGLE, FIELDS], ids=["single", "bags"])
@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("weights", [None, "learned"])
def test_as_one_embedding_bag_a_field(fields: tuple[Field, ...], pooling: str, weights: str | None) -> None:
    tables = scattered(FieldTables(fields, 6, pooling, weights=weights))
    batch = random_batch(fields, 0)
    upstream = torch.randn(len(batch), len(fields), 6, dtype=torch.float64)
    found = tables(batch.ids)
    own = gradients(tables, (found * upstream).sum())
    expected = []
    separate = []
    for number, field in enumerate(fields):
        start = (0 if tables.single else 1) + sum(other.size for other in fields[:number])
        weight = tables.table.detach()[start : start + field.size].clone().requires_grad_()
        factor = torch.ones(field.size, 1, dtype=torch.float64)
        if tables.weights is not None:
            factor = tables.weights.detach()[start : start + field.size].clone()
        factor.requires_grad_()
        separate.append((start, weight, factor))
        own_bags = [bags(batch, fields, row)[number] for row in range(len(batch))]
        flat = torch.tensor([value for bag in own_bags for value in bag], dtype=torch.int64)
        starts = torch.tensor([0] + [len(bag) for bag in own_bags[:-1]]).cumsum(0)
        pooled = nn.functional.embedding_bag(flat, weight * factor, starts, mode=pooling)
        expected.append(pooled)
    wanted = torch.stack(expected, dim=1)
    torch.testing.assert_close(found, wanted)
    (wanted * upstream).sum().backward()
    for start, weight, factor in separate:
        torch.testing.assert_close(own["table"][start : start + len(weight)], weight.grad)
        if weights is not None:
            torch.testing.assert_close(own["weights"][start : start + len(weight)], factor.grad)


def test_slots_that_are_not_used_have_no_value_and_give_no_gradient() -> None:
    tables = scattered(FieldTables((Field("a", 3), Field("b", 4, slots=2)), 2))
    ids = torch.tensor([[1, -1, -1], [0, 3, -1]])
    found = tables(ids)
    assert torch.equal(found[0, 1], torch.zeros(2, dtype=torch.float64))
    gradient = gradients(tables, found.sum())["table"]
    # Padding, a: 0, 1, 2, b: 0, 1, 2, 3.
    assert gradient[:, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 1]


def test_fixed_weights_are_kept_and_not_trained() -> None:
    tables = FieldTables(SINGLE, 3, weights="fixed")
    tables.initialise()
    tables.weights[0] = 2.0
    batch = random_batch(SINGLE, 0)
    batch.ids[:, 0] = 0
    assert torch.equal(tables(batch.ids)[:, 0], (2 * tables.table[0]).expand(len(batch), 3))
    assert "weights" in tables.state_dict()
    assert not tables.weights.requires_grad


def test_ids_above_2_to_24_stay_exact() -> None:
    ids = golden("deepfm")["float32_id_corruption"]["input"]["ids"]
    first = Field("small", 5)
    tables = FieldTables((first, Field("large", 2**24 + 8)), 1)
    with torch.no_grad():
        for value in ids:
            tables.table[first.size + value] = float(value - 2**24)
    batch = torch.tensor([[0, value] for value in ids], dtype=torch.int32)
    assert tables.places(batch)[:, 1].tolist() == [first.size + value for value in ids]
    with torch.no_grad():
        tables.table[0] = 0.0
        assert tables(batch)[:, 1, 0].tolist() == [value - 2**24 for value in ids]
    # What the well-known library does instead.
    assert (
        torch.tensor(ids).float().long().tolist() == golden("deepfm")["float32_id_corruption"]["expected"]["as_float32"]
    )


def test_rows_are_drawn_within_the_bound_of_their_own_field() -> None:
    case = golden("dlrm")["init_std"]
    tables = FieldTables((Field("a", 4), Field("b", case["input"]["rows"], slots=2)), 64)
    tables.initialise()
    assert not tables.table[0].any()
    large, bound = tables.rows_of(1), case["expected"]["emb_bound"]
    assert float(large.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(large.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    small = tables.rows_of(0)
    assert bound < float(small.abs().max()) <= 0.5
    tables.initialise(std=0.01)
    assert float(tables.rows_of(1).std()) == pytest.approx(0.01, rel=0.02)


def test_no_field_at_all() -> None:
    tables = FieldTables((), 4)
    assert tables(torch.zeros(3, 0, dtype=torch.int32)).shape == (3, 0, 4)
