"""Windows over users' events: batches of history, targets and negatives, built on the device."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recexp.problems.negatives import NegativeSampler, stream_key
from recexp.problems.next_item import NextItemBatch
from recexp.problems.placed_events import PlacedEvents
from recexp.problems.schedule import Block, Plan, Update, shuffled
from recexp.problems.training_part import TrainingPart

if TYPE_CHECKING:
    from recexp.datasets.events import Events

#: Name of the stream of training negatives.
TRAIN_STREAM = 1


@dataclass(frozen=True)
class NegativeOptions:
    """How training negatives are drawn; the defaults are the config's (conf/problem/next_item.yaml)."""

    count: int
    distribution: str
    alpha: float
    exclude: str
    catalogue: str
    refresh: str


def item_weights(events: Events, part: TrainingPart, options: NegativeOptions) -> NDArray[np.int64]:
    """Whole-number sampling weights of the item ids, int64 [num_items + 1]."""
    size = events.num_items + 1
    rated = np.bincount(events.item, minlength=size) > 0
    if options.distribution == "popularity":
        counts = part.support(events.item, events.user, events.num_items)
        # Six decimals of count ** alpha: exact for alpha 1, and far finer than the counts themselves.
        weights = np.rint(counts.astype(np.float64) ** options.alpha * 1e6).astype(np.int64)
        weights[counts == 0] = 0
    else:
        weights = np.ones(size, dtype=np.int64)
    if options.catalogue == "rated":
        weights[~rated] = 0
    weights[0] = 0
    return weights


class WindowFeed:
    """Rows of a history and its next items, shuffled in every epoch."""

    def __init__(
        self,
        placed: PlacedEvents,
        part: TrainingPart,
        *,
        plan: dict[str, Any],
        max_len: int,
        targets: int,
        negatives: NegativeOptions,
        seed: int,
    ) -> None:
        """Find the rows.

        Args:
            placed: The events.
            part: Which of them are for training.
            plan: The fields of :class:`Plan` but ``rows``.
            max_len: Items of history (L).
            targets: Next items of a row (T).
            negatives: How they are drawn.
            seed: Of the shuffles and the negatives.
        """
        self.placed, self.events, self.part = placed, placed.events, part
        self.train = part.targets(len(self.events))
        self.plan = Plan(rows=len(self.train), **plan)
        self.max_len, self.targets, self.negatives, self.seed = max_len, targets, negatives, seed
        self.device, self.rank, self.world = torch.device("cpu"), 0, 1
        self._order: tuple[int, Tensor] | None = None
        # Now and not in `place`: who has nothing left to draw from is told before anything starts.
        self._sampler = self._training_sampler()

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Hold the arrays on a device, for one of several processes."""
        moved = self.placed.device != device or not hasattr(self, "_train")
        self.device, self.rank, self.world = device, rank, world
        if not moved:
            return
        self.placed.place(device)
        self._train_end = torch.from_numpy(self.part.end).to(device)
        self._train = torch.from_numpy(self.train).to(device)
        self._sampler.to(device)

    def _training_sampler(self) -> NegativeSampler:
        events, exclude = self.events, self.negatives.exclude
        weights = item_weights(events, self.part, self.negatives)
        user, item = np.asarray(events.user, dtype=np.int64), np.asarray(events.item, dtype=np.int64)
        if exclude == "targets":
            # Keyed by the row instead of the user: each row excludes its own targets.
            row = np.concatenate([self.train] * self.targets)
            at = np.concatenate([self.train + t for t in range(self.targets)])
            own = at < self.part.end[user[row]]
            return NegativeSampler(weights, len(item), row[own], item[at[own]])
        kept = {"all": np.ones(len(item), bool), "none": np.zeros(len(item), bool)}.get(
            exclude, self.part.mask(events.user)
        )
        return NegativeSampler(weights, events.num_users, user[kept], item[kept])

    def block(self, epoch: int, updates: range) -> Block[NextItemBatch]:
        """The updates of these numbers."""
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
        user = self.placed.user[position].to(torch.int64)
        epoch_part = 0 if self.negatives.refresh == "never" else epoch + 1
        key = stream_key(self.seed, TRAIN_STREAM, epoch_part)
        at = position[:, None] + torch.arange(self.targets, device=self.device)
        inside = at < self._train_end[user][:, None]
        target = torch.where(inside, self.placed.item[at.clamp(max=len(self.events) - 1)], 0).to(torch.int64)
        owner = position if self.negatives.exclude == "targets" else user
        draws = self.targets * self.negatives.count
        negative = self._sampler.draw(key, owner, position, draws).view(-1, self.targets, self.negatives.count)
        return NextItemBatch(user, self.placed.history(position, self.max_len), target, negative)
