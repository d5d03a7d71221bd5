"""Batches of impressions: gathered from memory-mapped arrays, or from the device where they fit there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from recexp.datasets.impressions import Impressions
from recexp.problems.click import ClickBatch
from recexp.problems.row_order import RowOrder
from recexp.problems.schedule import Block, Plan, Update

#: Rows of a part up to this size live on the device whole; larger ones are gathered on the host, a block at a time.
RESIDENT_BYTES = 4 << 30


class PlacedRows:
    """The rows of one part, wherever they are held."""

    def __init__(self, data: Impressions, part: str) -> None:
        rows = data.part(part)
        self._arrays = [torch.from_numpy(array[rows]) for array in (data.label, data.dense, data.ids)]
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._arrays[0])

    def place(self, device: torch.device) -> None:
        """Gather for a device from now on."""
        if device.type != "cpu" and device != self.device and self._bytes() <= RESIDENT_BYTES:
            # NPUs gather no bytes.
            label, *rest = self._arrays
            self._arrays = [array.to(device) for array in (label.to(torch.float32), *rest)]
        self.device = device

    def _bytes(self) -> int:
        return sum(array.numel() * array.element_size() for array in self._arrays)

    def take(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]] | slice) -> ClickBatch:
        """Rows on the device; those of a slice are not copied where they are there already."""
        if isinstance(rows, slice):
            pieces = [array[rows] for array in self._arrays]
        else:
            at = torch.from_numpy(rows).to(self._arrays[0].device)
            pieces = [array.index_select(0, at) for array in self._arrays]
        label, dense, ids = (self._moved(piece) for piece in pieces)
        return ClickBatch(label.to(torch.float32), dense, ids)

    def _moved(self, piece: Tensor) -> Tensor:
        if piece.device == self.device:
            return piece
        if self.device.type == "cuda":
            return piece.pin_memory().to(self.device, non_blocking=True)
        return piece.to(self.device)


class ClickFeed:
    """The training rows, in an order of each epoch's own."""

    def __init__(self, rows: PlacedRows, order: RowOrder, plan: Plan) -> None:
        self.rows, self.order, self.plan = rows, order, plan
        self.rank, self.world = 0, 1

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Gather for a device, as one of several processes."""
        self.rank, self.world = rank, world
        self.rows.place(device)

    def block(self, epoch: int, updates: range) -> Block[ClickBatch]:
        """The updates of these numbers; their rows are gathered at once and cut up."""
        bounds = [self.plan.rows_of(update) for update in updates]
        if not bounds:
            return Block(epoch, [])
        order = self.order.slice(epoch, bounds[0][0][0], bounds[-1][-1][1])
        start = bounds[0][0][0]
        pieces = [order[a - start : b - start][self.rank :: self.world] for batches in bounds for a, b in batches]
        gathered = self.rows.take(np.concatenate(pieces) if self.world > 1 else order)
        cuts = np.cumsum([0] + [len(piece) for piece in pieces])
        batches = iter(gathered.rows(slice(int(a), int(b))) for a, b in itertools.pairwise(cuts))
        return Block(epoch, [Update(own[-1][1] - own[0][0], [next(batches) for _ in own]) for own in bounds])


class ClickLoader:
    """Batches of an evaluated part in the order of the data, this process's share of each."""

    def __init__(self, rows: PlacedRows, batch_size: int, *, rank: int, world: int, limit: int | None) -> None:
        self.rows, self.batch_size, self.rank, self.world = rows, batch_size, rank, world
        self.count = len(rows) if limit is None else min(limit, len(rows))

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[ClickBatch]:
        for first in range(0, self.count, self.batch_size):
            whole = self.rows.take(slice(first, min(first + self.batch_size, self.count)))
            yield whole.rows(slice(self.rank, None, self.world)) if self.world > 1 else whole
