"""The plan and the loader against enumeration of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recexp.problems.schedule import Block, BlockLoader, Plan, shuffled


@given(
    rows=st.integers(1, 60), batch=st.integers(1, 9), accumulate=st.integers(1, 3), block=st.integers(1, 5),
    limit=st.none() | st.integers(1, 8).map(float) | st.floats(0.05, 0.95), drop=st.booleans(),
    most=st.none() | st.integers(1, 30),
)  # fmt: skip
def test_blocks_cover_the_epoch_in_order(
    rows: int, batch: int, accumulate: int, block: int, limit: float | None, drop: bool, most: int | None
) -> None:
    plan = Plan(rows, batch, accumulate, block, limit, drop, most)
    batches = [(s, min(s + batch, rows)) for s in range(0, rows, batch)]
    if drop:
        batches = [b for b in batches if b[1] - b[0] == batch]
    if limit is not None:
        batches = batches[: int(limit) if limit >= 1 else max(1, int(len(batches) * limit))]
    updates = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
    assert plan.updates == len(updates)
    for epoch in range(3):
        seen = [plan.rows_of(u) for b in range(plan.blocks) for u in plan.updates_of(epoch, b)]
        left = len(updates) if most is None else max(0, min(len(updates), most - epoch * len(updates)))
        assert seen == updates[:left]


def test_loader_goes_on_where_its_state_was() -> None:
    def build(epoch: int, updates: range) -> Block:
        return Block(epoch, list(updates))

    plan = Plan(rows=100, batch_size=10, updates_per_block=3)
    loader = BlockLoader(plan, build)
    whole = [(b.epoch, b.updates) for _ in range(3) for b in loader]
    assert len(whole) == 12
    for stop in range(12):
        first, second = BlockLoader(plan, build), BlockLoader(plan, build)
        seen = []
        while len(seen) < stop:
            for b in first:
                seen.append((b.epoch, b.updates))
                if len(seen) == stop:
                    break
        second.load_state_dict(first.state_dict())
        while len(seen) < 12:
            seen += [(b.epoch, b.updates) for b in second]
        assert seen == whole


def test_shuffles_depend_on_seed_and_epoch_alone() -> None:
    orders = {(s, e): tuple(shuffled(50, s, e)) for s in (1, 2) for e in (0, 1)}
    assert len(set(orders.values())) == 4
    assert all(sorted(o) == list(range(50)) for o in orders.values())
    assert np.array_equal(shuffled(50, 1, 1), orders[1, 1])


def test_an_empty_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch size 20"):
        BlockLoader(Plan(rows=10, batch_size=20, drop_last=True), lambda e, u: Block(e, []))
