"""Data of the next-item problem: a leave-one-out split, the model's feed, and the users that are evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recexp.problems.evaluation import EvalBatch
from recexp.problems.leave_one_out import leave_one_out
from recexp.problems.negatives import NegativeSampler, stream_key
from recexp.problems.placed_events import PlacedEvents
from recexp.problems.problem_data import Feed, ProblemData
from recexp.problems.training_part import TrainingPart

if TYPE_CHECKING:
    from recexp.datasets.events import Events

# Names of the streams of negatives of each evaluated split.
EVAL_STREAMS = {"val": 2, "test": 3}


class NextItemData(ProblemData):
    """Leave-one-out split of one dataset's events."""

    def __init__(
        self,
        events: Events,
        *,
        make_feed: Callable[[PlacedEvents, TrainingPart], Feed],
        eval_batch_size: int,
        max_len: int,
        sampled: int,
        eval_seed: int,
        limit_eval_users: int | None = None,
    ) -> None:
        """Split the events.

        Args:
            events: As the dataset offers them.
            make_feed: Makes the model's feed of the training part.
            eval_batch_size: Users of an evaluation batch.
            max_len: Items of history (L) that an evaluated user is ranked from.
            sampled: Items that an evaluated user never met, drawn for the sampled protocols.
            eval_seed: Of the frozen evaluation negatives.
            limit_eval_users: Evaluate on the first so many only.
        """
        if not len(events):
            raise ValueError("there is no event in the data")
        self.events, self.split = events, leave_one_out(events.offsets)
        self.placed = PlacedEvents(events)
        super().__init__(make_feed(self.placed, self.split.part))
        self.eval_batch_size, self.limit_eval_users = eval_batch_size, limit_eval_users
        self.max_len, self.sampled, self.eval_seed = max_len, sampled, eval_seed
        self._eval_sampler = self._evaluation_sampler() if sampled else None

    @property
    def rated(self) -> Tensor:
        """Which item ids occur at all, bool [num_items + 1]."""
        return torch.from_numpy(np.bincount(self.events.item, minlength=self.events.num_items + 1) > 0)

    @property
    def popularity(self) -> Tensor:
        """Training events of each item id, float32 [num_items + 1]."""
        support = self.split.part.support(self.events.item, self.events.user, self.events.num_items)
        return torch.from_numpy(support.astype(np.float32))

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Hold the arrays on a device, for one of several processes."""
        moved = self.placed.device != device
        self.placed.place(device)
        super().place(device, rank, world)
        if moved and self._eval_sampler is not None:
            self._eval_sampler.to(device)

    def history(self, position: Tensor) -> Tensor:
        """The last items of the same user before each position, int64 [B, max_len], 0 on the left."""
        return self.placed.history(position, self.max_len)

    def _evaluation_sampler(self) -> NegativeSampler:
        weights = np.ones(self.events.num_items + 1, dtype=np.int64)
        weights[0] = 0
        user, item = np.asarray(self.events.user, np.int64), np.asarray(self.events.item, np.int64)
        remedy = "leave p1 and p2 out of problem.protocols"
        return NegativeSampler(weights, self.events.num_users, user, item, remedy)

    def val_dataloader(self) -> EvalLoader:
        """Evaluated users with their validation targets."""
        return EvalLoader(self, "val")

    def test_dataloader(self) -> EvalLoader:
        """Evaluated users with their test targets."""
        return EvalLoader(self, "test")

    def eval_batch(self, users: NDArray[np.int64], split: str) -> EvalBatch:
        """The evaluated users of these indices, with what the protocols need."""
        positions = self.split.validation if split == "val" else self.split.test
        position = torch.from_numpy(positions[users]).to(self.device)
        user = torch.from_numpy(self.split.users[users]).to(self.device)
        key = stream_key(self.eval_seed, EVAL_STREAMS[split])
        return EvalBatch(
            user=user,
            history=self.history(position),
            target=self.placed.item[position].to(torch.int64),
            sampled=self._unseen(key, user, position),
            seen=self._pairs(self.placed.start[position], positions[users], self.split.users[users]),
            trained=self._pairs(
                self.placed.start[position], self.split.train_end[self.split.users[users]], self.split.users[users]
            ),
        )

    def _unseen(self, key: int, user: Tensor, position: Tensor) -> Tensor:
        if self._eval_sampler is None:
            return torch.zeros((len(user), 0), dtype=torch.int64, device=self.device)
        return self._eval_sampler.draw(key, user, position, self.sampled)

    def _pairs(self, start: Tensor, end: NDArray[np.int64], users: NDArray[np.int64]) -> Tensor:
        """(row, item) of the events ``start:end`` of each row, int64 [2, P]; the counts come from the host."""
        counts = end - np.asarray(self.events.offsets)[users]
        row = torch.from_numpy(np.repeat(np.arange(len(users)), counts)).to(self.device)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        at = start[row] + torch.from_numpy(within).to(self.device)
        return torch.stack((row, self.placed.item[at].to(torch.int64)))


class EvalLoader:
    """Batches of evaluated users, this process's share of them."""

    def __init__(self, data: NextItemData, split: str) -> None:
        self.data, self.split = data, split
        self.users = np.arange(len(data.split.users))[: data.limit_eval_users][data.rank :: data.world]
        if not len(data.split.users):
            raise ValueError("no user has 3 events: nothing can be held out for validation and test")

    def __len__(self) -> int:
        return math.ceil(len(self.users) / self.data.eval_batch_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        for first in range(0, len(self.users), self.data.eval_batch_size):
            yield self.data.eval_batch(self.users[first : first + self.data.eval_batch_size], self.split)
