"""Evaluated sessions in tiles: a fixed number of sessions of about equal length, so that every product has one shape.

A tile is a function of the set of sessions alone. Batches and processes get whole tiles, so neither the size of the
batches nor the number of processes can change what is computed together, and with it a rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recexp.problems.session_split import SessionSet

#: Sessions of a tile.
COLUMNS = 128


@dataclass(frozen=True)
class SessionTile:
    """Sessions side by side, the longest first; columns without a session at the end of the last tile.

    Attributes:
        items: Time first, 0 behind the end of a session, int64 [T, COLUMNS].
        row: Where in ``items``, read row by row, the event before each predicted one is, int64 [P]; the predicted
            one is ``COLUMNS`` further. Sorted.
        event: Number of each predicted event in the whole set, int64 [P].
    """

    items: Tensor
    row: Tensor
    event: Tensor

    @property
    def target(self) -> Tensor:
        """The predicted items, int64 [P]."""
        return self.items.view(-1)[self.row + COLUMNS]


@dataclass(frozen=True)
class EvaluatedSessions:
    """A batch of evaluation: whole tiles; without any where only other processes have a last one."""

    tiles: tuple[SessionTile, ...]


class SessionLoader:
    """Batches of the sessions of a set, this process's share of them, built on a device.

    The tiles go to the processes in turn; all processes have the same number of batches, whose last may be empty.
    """

    def __init__(
        self,
        sessions: SessionSet,
        *,
        eval_batch_size: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        limit: int | None = None,
    ) -> None:
        """Cut the sessions into tiles.

        Args:
            sessions: What to evaluate.
            eval_batch_size: Sessions of a batch, rounded up to whole tiles of ``COLUMNS``. No result depends on it.
            device: Where the batches are wanted.
            rank: Number of this process.
            world: Number of processes.
            limit: Evaluate on the first so many sessions only, None for all.
        """
        if eval_batch_size < 1:
            raise ValueError(f"eval_batch_size={eval_batch_size}: 1 or more")
        self.sessions, self.device = sessions, device
        self.rank, self.world = rank, world
        self.tiles_per_batch = math.ceil(eval_batch_size / COLUMNS)
        lengths = np.diff(sessions.offsets)[:limit]
        if not len(lengths):
            raise ValueError("there is no session to evaluate")
        # By length, so that a tile has few places behind the end of its sessions.
        self.order = np.argsort(-lengths, kind="stable")
        self.tiles = math.ceil(len(lengths) / COLUMNS)

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.tiles / self.world) / self.tiles_per_batch)

    def __iter__(self) -> Iterator[EvaluatedSessions]:
        own = range(self.rank, self.tiles, self.world)
        for batch in range(len(self)):
            numbers = own[batch * self.tiles_per_batch : (batch + 1) * self.tiles_per_batch]
            yield EvaluatedSessions(tuple(self.tile(number) for number in numbers))

    def tile(self, number: int) -> SessionTile:
        """One tile of the whole set."""
        session = self.order[number * COLUMNS : (number + 1) * COLUMNS]
        start = np.asarray(self.sessions.offsets[session])
        lengths = self.sessions.offsets[session + 1] - start
        place = np.arange(lengths.max())[:, None]
        inside = place < lengths
        # Numbers of the events, -1 where there is none.
        event = np.full((len(place), COLUMNS), -1, dtype=np.int64)
        event[:, : len(session)][inside] = (start + place)[inside]
        items = np.where(event >= 0, self.sessions.items[event], 0)
        predicted = event[1:].reshape(-1)
        row = np.flatnonzero(predicted >= 0)
        arrays = (items, row, predicted[row])
        return SessionTile(*(torch.from_numpy(array).to(self.device) for array in arrays))
