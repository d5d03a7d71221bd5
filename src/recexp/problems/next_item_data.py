"""Batches of the next-item problem, built on the device from event arrays that live there whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor

from recexp.problems.evaluation import EvalBatch
from recexp.problems.leave_one_out import LeaveOneOut, leave_one_out
from recexp.problems.negatives import NegativeSampler, stream_key
from recexp.problems.next_item import NextItemBatch
from recexp.problems.schedule import Block, BlockLoader, Plan, Update, shuffled

if TYPE_CHECKING:
    from recexp.datasets.events import Events

# Names of the streams of negatives: training, and each evaluated split.
TRAIN_STREAM, EVAL_STREAMS = 1, {"val": 2, "test": 3}


@dataclass(frozen=True)
class NegativeOptions:
    """How training negatives are drawn; the defaults are the config's (conf/problem/next_item.yaml)."""

    count: int
    distribution: str
    alpha: float
    exclude: str
    catalogue: str
    refresh: str


def item_weights(events: Events, split: LeaveOneOut, options: NegativeOptions) -> NDArray[np.int64]:
    """Whole-number sampling weights of the item ids, int64 [num_items + 1]."""
    size = events.num_items + 1
    rated = np.bincount(events.item, minlength=size) > 0
    if options.distribution == "popularity":
        counts = np.bincount(np.asarray(events.item)[training_events(events, split)], minlength=size)
        # Six decimals of count ** alpha: exact for alpha 1, and far finer than the counts themselves.
        weights = np.rint(counts.astype(np.float64) ** options.alpha * 1e6).astype(np.int64)
        weights[counts == 0] = 0
    else:
        weights = np.ones(size, dtype=np.int64)
    if options.catalogue == "rated":
        weights[~rated] = 0
    weights[0] = 0
    return weights


def training_events(events: Events, split: LeaveOneOut) -> NDArray[np.bool_]:
    """Which events are for training, bool [N]: targets and the first event of each user."""
    position = np.arange(len(events.item))
    is_training: NDArray[np.bool_] = position < split.train_end[np.asarray(events.user)]
    return is_training


class NextItemData(LightningDataModule):
    """Leave-one-out split of one dataset's events, with windows and negatives."""

    def __init__(
        self,
        events: Events,
        *,
        plan: dict[str, object],
        eval_batch_size: int,
        max_len: int,
        targets: int,
        negatives: NegativeOptions,
        sampled: int,
        seed: int,
        eval_seed: int,
        limit_eval_users: int | None = None,
    ) -> None:
        """Split the events.

        Args:
            events: As the dataset offers them.
            plan: The fields of :class:`Plan` but ``rows``.
            eval_batch_size: Users of an evaluation batch.
            max_len: Items of history (L).
            targets: Next items of a row (T).
            negatives: How they are drawn.
            sampled: Items that an evaluated user never met, drawn for the sampled protocols.
            seed: Of the shuffles and the training negatives.
            eval_seed: Of the frozen evaluation negatives.
            limit_eval_users: Evaluate on the first so many only.
        """
        super().__init__()
        if not len(events):
            raise ValueError("there is no event in the data")
        self.events, self.split = events, leave_one_out(events.offsets)
        self.plan = Plan(rows=len(self.split.train), **plan)  # type: ignore[arg-type]
        self.eval_batch_size, self.limit_eval_users = eval_batch_size, limit_eval_users
        self.max_len, self.targets, self.negatives, self.sampled = max_len, targets, negatives, sampled
        self.seed, self.eval_seed = seed, eval_seed
        self.device = torch.device("cpu")
        self.rank, self.world = 0, 1
        self._train_loader: BlockLoader[NextItemBatch] | None = None
        self._order: tuple[int, Tensor] | None = None

    @property
    def rated(self) -> Tensor:
        """Which item ids occur at all, bool [num_items + 1]."""
        return torch.from_numpy(np.bincount(self.events.item, minlength=self.events.num_items + 1) > 0)

    @property
    def popularity(self) -> Tensor:
        """Training events of each item id, float32 [num_items + 1]."""
        items = np.asarray(self.events.item)[training_events(self.events, self.split)]
        return torch.from_numpy(np.bincount(items, minlength=self.events.num_items + 1).astype(np.float32))

    def setup(self, stage: str) -> None:
        """Move the arrays to the trainer's device, once."""
        if self.trainer is not None:
            self.place(self.trainer.strategy.root_device, self.trainer.global_rank, self.trainer.world_size)

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Hold the arrays on a device, for one of several processes."""
        placed = hasattr(self, "_item") and device == self.device
        self.device, self.rank, self.world = device, rank, world
        if placed:
            return
        start = np.asarray(self.events.offsets)[np.asarray(self.events.user)]
        self._item = torch.from_numpy(np.array(self.events.item)).to(device)
        self._user = torch.from_numpy(np.array(self.events.user)).to(device)
        self._start = torch.from_numpy(start.astype(np.int64)).to(device)
        self._train_end = torch.from_numpy(self.split.train_end).to(device)
        self._train = torch.from_numpy(self.split.train).to(device)
        self._sampler = self._training_sampler().to(device)
        self._eval_sampler = self._evaluation_sampler().to(device) if self.sampled else None

    def _training_sampler(self) -> NegativeSampler:
        events, exclude = self.events, self.negatives.exclude
        weights = item_weights(events, self.split, self.negatives)
        user, item = np.asarray(events.user, dtype=np.int64), np.asarray(events.item, dtype=np.int64)
        if exclude == "targets":
            # Keyed by the row instead of the user: each row excludes its own targets.
            row = np.concatenate([self.split.train] * self.targets)
            at = np.concatenate([self.split.train + t for t in range(self.targets)])
            own = at < self.split.train_end[user[row]]
            return NegativeSampler(weights, len(item), row[own], item[at[own]])
        kept = {"all": np.ones(len(item), bool), "none": np.zeros(len(item), bool)}.get(
            exclude, training_events(events, self.split)
        )
        return NegativeSampler(weights, events.num_users, user[kept], item[kept])

    def _evaluation_sampler(self) -> NegativeSampler:
        weights = np.ones(self.events.num_items + 1, dtype=np.int64)
        weights[0] = 0
        user, item = np.asarray(self.events.user, np.int64), np.asarray(self.events.item, np.int64)
        return NegativeSampler(weights, self.events.num_users, user, item)

    def train_dataloader(self) -> BlockLoader[NextItemBatch]:
        """Blocks of shuffled rows."""
        if self._train_loader is None:
            self._train_loader = BlockLoader(self.plan, self._block)
        return self._train_loader

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Nothing to move: batches are built on the device."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where the next block is. Lightning restores a loader's own state only in the middle of an epoch."""
        return self.train_dataloader().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there."""
        self.train_dataloader().load_state_dict(state_dict)

    def val_dataloader(self) -> EvalLoader:
        """Evaluated users with their validation targets."""
        return EvalLoader(self, "val")

    def test_dataloader(self) -> EvalLoader:
        """Evaluated users with their test targets."""
        return EvalLoader(self, "test")

    def _block(self, epoch: int, updates: range) -> Block[NextItemBatch]:
        if self._order is None or self._order[0] != epoch:
            order = torch.from_numpy(shuffled(self.plan.rows, self.seed, epoch)).to(self.device)
            self._order = (epoch, order)
        bounds = [self.plan.rows_of(update) for update in updates]
        if not bounds:
            return Block(epoch, [])
        first, last = bounds[0][0][0], bounds[-1][-1][1]
        share = slice(self.rank, None, self.world)
        pieces = [slice(a - first, b - first) for batches in bounds for a, b in batches]
        rows = self._order[1][first:last]
        if self.world > 1:
            rows = torch.cat([rows[piece][share] for piece in pieces])
        batch = self._rows(self._train[rows], epoch)
        cuts = np.cumsum([0] + [len(range(p.stop - p.start)[share]) for p in pieces])
        batches = iter(batch[int(a) : int(b)] for a, b in itertools.pairwise(cuts))
        return Block(epoch, [Update(u[-1][1] - u[0][0], [next(batches) for _ in u]) for u in bounds])

    def _rows(self, position: Tensor, epoch: int) -> NextItemBatch:
        user = self._user[position].to(torch.int64)
        epoch_part = 0 if self.negatives.refresh == "never" else epoch + 1
        key = stream_key(self.seed, TRAIN_STREAM, epoch_part)
        at = position[:, None] + torch.arange(self.targets, device=self.device)
        inside = at < self._train_end[user][:, None]
        target = torch.where(inside, self._item[at.clamp(max=len(self._item) - 1)], 0).to(torch.int64)
        owner = position if self.negatives.exclude == "targets" else user
        draws = self.targets * self.negatives.count
        negative = self._sampler.draw(key, owner, position, draws).view(-1, self.targets, self.negatives.count)
        return NextItemBatch(user, self.history(position), target, negative)

    def history(self, position: Tensor) -> Tensor:
        """The last items of the same user before each position, int64 [B, max_len], 0 on the left."""
        at = position[:, None] + torch.arange(-self.max_len, 0, device=self.device)
        inside = at >= self._start[position][:, None]
        return torch.where(inside, self._item[at.clamp(min=0)], 0).to(torch.int64)

    def eval_batch(self, users: NDArray[np.int64], split: str) -> EvalBatch:
        """The evaluated users of these indices, with what the protocols need."""
        positions = self.split.validation if split == "val" else self.split.test
        position = torch.from_numpy(positions[users]).to(self.device)
        user = torch.from_numpy(self.split.users[users]).to(self.device)
        key = stream_key(self.eval_seed, EVAL_STREAMS[split])
        return EvalBatch(
            user=user,
            history=self.history(position),
            target=self._item[position].to(torch.int64),
            sampled=self._unseen(key, user, position),
            seen=self._pairs(self._start[position], positions[users], self.split.users[users]),
            trained=self._pairs(
                self._start[position], self.split.train_end[self.split.users[users]], self.split.users[users]
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
        return torch.stack((row, self._item[at].to(torch.int64)))


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
