"""The order of training: which rows make which batch, update and block, as a function of (seed, epoch, block)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Update(Generic[Batch]):
    """One step of the optimiser.

    Attributes:
        rows: Rows of all processes together, the denominator of a mean loss.
        batches: This process's share of each accumulated batch.
    """

    rows: int
    batches: list[Batch]


@dataclass(frozen=True)
class Block(Generic[Batch]):
    """Several updates that run inside one Lightning step, so that its loop costs little."""

    epoch: int
    updates: list[Update[Batch]]

    @property
    def rows(self) -> int:
        """Rows of all processes together."""
        return sum(update.rows for update in self.updates)


@dataclass(frozen=True)
class Plan:
    """How an epoch is cut up.

    Attributes:
        rows: Training rows.
        batch_size: Rows of a batch, over all processes.
        accumulate: Batches of an update.
        updates_per_block: Updates of a block. No result depends on it.
        limit: Batches of an epoch: a whole number, or a share below 1; None for all.
        drop_last: Leave out a last batch that is not full.
        max_updates: Updates of the whole training, None for no bound.
    """

    rows: int
    batch_size: int
    accumulate: int = 1
    updates_per_block: int = 1
    limit: float | None = None
    drop_last: bool = False
    max_updates: int | None = None

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        whole = self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)
        if self.limit is None:
            return whole
        return min(whole, int(self.limit) if self.limit >= 1 else max(1, int(whole * self.limit)))

    @property
    def updates(self) -> int:
        """Updates of an epoch."""
        return -(-self.batches // self.accumulate)

    @property
    def blocks(self) -> int:
        """Blocks of an epoch; fewer than an epoch's where the whole training is shorter than one."""
        updates = self.updates if self.max_updates is None else min(self.updates, self.max_updates)
        return -(-updates // self.updates_per_block)

    def updates_of(self, epoch: int, block: int) -> range:
        """Numbers of the updates of a block within its epoch, cut off at ``max_updates``."""
        first = block * self.updates_per_block
        last = min(first + self.updates_per_block, self.updates)
        if self.max_updates is not None:
            last = min(last, self.max_updates - epoch * self.updates)
        return range(first, max(first, last))

    def rows_of(self, update: int) -> list[tuple[int, int]]:
        """Bounds, in the epoch's order, of the batches of one update."""
        batches = range(update * self.accumulate, min((update + 1) * self.accumulate, self.batches))
        return [(b * self.batch_size, min((b + 1) * self.batch_size, self.rows)) for b in batches]


def shuffled(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch, int64 [rows]: a function of its arguments alone."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(rows)


class BlockLoader(Generic[Batch]):
    """Yields an epoch's blocks from wherever the state says; what Lightning takes for a data loader.

    The state is saved with every checkpoint, so that a run resumes with the very next block.
    """

    def __init__(self, plan: Plan, build: Callable[[int, range], Block[Batch]]) -> None:
        self.plan = plan
        self.build = build
        self.epoch = 0
        self.block = 0
        self.seconds = 0.0
        if not plan.blocks:
            raise ValueError(
                f"no batch to train on: {plan.rows} rows, batch size {plan.batch_size}, limit {plan.limit}, "
                f"drop_last {plan.drop_last}"
            )

    def __len__(self) -> int:
        return self.plan.blocks

    def __iter__(self) -> Iterator[Block[Batch]]:
        while True:
            if self.block >= len(self):
                self.epoch, self.block = self.epoch + 1, 0
            started = time.perf_counter()
            block = self.build(self.epoch, self.plan.updates_of(self.epoch, self.block))
            self.seconds += time.perf_counter() - started
            self.block += 1
            yield block
            if self.block >= len(self):
                return

    def state_dict(self) -> dict[str, Any]:
        """Where the next block is."""
        return {"epoch": self.epoch, "block": self.block}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved state was."""
        self.epoch, self.block = int(state["epoch"]), int(state["block"])
