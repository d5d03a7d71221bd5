"""Batches of impressions against the arrays themselves, for any number of processes and any cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recexp.datasets.events import DataMeta
from recexp.datasets.impressions import Field, Impressions
from recexp.problems.click_feed import ClickFeed, ClickLoader, PlacedRows
from recexp.problems.row_order import RowOrder
from recexp.problems.schedule import Plan

META = DataMeta("handmade", "0" * 64, "none", "test", synthetic=True, rows_read=40)


@pytest.fixture
def data() -> Impressions:
    draw = np.random.default_rng(0)
    return Impressions(
        label=draw.integers(0, 2, 40).astype(np.uint8),
        dense=draw.normal(size=(40, 2)).astype(np.float32),
        ids=np.stack([np.arange(40), draw.integers(0, 5, 40)], axis=1).astype(np.int32),
        fields=(Field("row", 40), Field("kind", 5)),
        dense_names=("a", "b"),
        bounds=(0, 25, 32, 40),
        split="by hand",
        meta=META,
    )


def feed(data: Impressions, *, kind: str = "window", rank: int = 0, world: int = 1, **plan: int) -> ClickFeed:
    rows = PlacedRows(data, "train")
    made = ClickFeed(rows, RowOrder(len(rows), kind, 16, seed=1), Plan(rows=len(rows), batch_size=4, **plan))
    made.place(torch.device("cpu"), rank, world)
    return made


def batches(made: ClickFeed, epoch: int, per_block: int) -> list[list[list[int]]]:
    """The rows (their first field is their number) of each batch of each update."""
    found = []
    for first in range(0, made.plan.updates, per_block):
        block = made.block(epoch, range(first, min(first + per_block, made.plan.updates)))
        found += [[batch.ids[:, 0].tolist() for batch in update.batches] for update in block.updates]
    return found


def test_a_batch_is_what_the_data_says(data: Impressions) -> None:
    made = feed(data)
    seen: list[int] = []
    for update in made.block(0, range(7)).updates:
        (batch,) = update.batches
        rows = batch.ids[:, 0].long().numpy()
        assert batch.label.dtype == torch.float32
        assert batch.label.tolist() == data.label[rows].tolist()
        np.testing.assert_array_equal(batch.dense.numpy(), data.dense[rows])
        np.testing.assert_array_equal(batch.ids.numpy(), data.ids[rows])
        seen += rows.tolist()
    assert sorted(seen) == list(range(25)), "training rows, each once, and no others"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_blocks_decide_nothing(data: Impressions, accumulate: int) -> None:
    made = feed(data, accumulate=accumulate)
    assert batches(made, 3, 1) == batches(made, 3, 3) == batches(made, 3, 100)
    assert batches(made, 3, 3) != batches(made, 4, 3)


def test_processes_share_each_batch(data: Impressions) -> None:
    alone = batches(feed(data), 0, 3)
    shares = [batches(feed(data, rank=rank, world=3), 0, 2) for rank in range(3)]
    for whole, *own in zip(alone, *shares, strict=True):
        joined = [[row for piece in batch for row in piece] for batch in zip(*own, strict=True)]
        assert [sorted(batch) for batch in joined] == [sorted(batch) for batch in whole]
    rows = feed(data, rank=1, world=3).block(0, range(1)).updates[0].rows
    assert rows == 4, "the mean is over the rows of all processes"


def test_evaluation_takes_every_row_of_its_part_in_order(data: Impressions) -> None:
    rows = PlacedRows(data, "test")
    whole = [batch.ids[:, 0].tolist() for batch in ClickLoader(rows, 3, rank=0, world=1, limit=None)]
    assert whole == [[32, 33, 34], [35, 36, 37], [38, 39]]
    assert len(ClickLoader(rows, 3, rank=0, world=1, limit=None)) == 3
    limited = [batch.ids[:, 0].tolist() for batch in ClickLoader(rows, 3, rank=0, world=1, limit=4)]
    assert limited == [[32, 33, 34], [35]]
    shared = [
        [batch.ids[:, 0].tolist() for batch in ClickLoader(rows, 3, rank=rank, world=2, limit=None)] for rank in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*shared, strict=True)] == whole
