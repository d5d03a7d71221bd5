"""Session-parallel training batches in blocks: schedule, shared samples and dropout, drawn ahead for many steps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recexp.problems.schedule import Block, Plan, Update
from recexp.problems.session_parallel import slot_runs
from recexp.problems.session_steps import FeedOptions, SessionBatch, SessionStep

#: Steps whose random numbers are drawn together. Part of what a seed means: other values draw other numbers.
CHUNK = 64
_SAMPLES, _DROPOUT = 1, 2


class AliasTable:
    """Draws whole numbers in proportion to weights, in constant time (Walker 1977; Vose 1991)."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        """Build the table.

        Raises:
            ValueError: No weight is above 0.
        """
        self.values = np.flatnonzero(weights).astype(np.int32)
        if not len(self.values):
            raise ValueError("every item has weight 0: there is nothing to draw samples from")
        share = weights[self.values] * (len(self.values) / weights.sum())
        self.stays = np.ones(len(share), dtype=np.float32)
        self.other = np.arange(len(share), dtype=np.int32)
        small, large = (np.flatnonzero(side).tolist() for side in (share < 1, share >= 1))
        rest = share.tolist()
        while small and large:
            poor, rich = small.pop(), large[-1]
            self.stays[poor], self.other[poor] = rest[poor], rich
            rest[rich] -= 1 - rest[poor]
            if rest[rich] < 1:
                small.append(large.pop())

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Values, int32 [*shape]."""
        at = random.integers(0, len(self.values), shape, dtype=np.int32)
        other = random.random(shape, dtype=np.float32) >= self.stays[at]
        at[other] = self.other[at[other]]
        return self.values[at]


def random_of(seed: int, stream: int, epoch: int, chunk: int) -> np.random.Generator:
    """The generator of one chunk of steps: a function of its arguments alone, and of no other chunk's draws."""
    return np.random.Generator(np.random.Philox(key=[seed, stream], counter=[0, 0, epoch, chunk]))


class SessionFeed:
    """Builds the blocks of an epoch. The same schedule in every epoch, other samples and other dropout."""

    def __init__(
        self,
        items: NDArray[np.int32],
        begin: NDArray[np.int64],
        end: NDArray[np.int64],
        *,
        batch_size: int,
        options: FeedOptions,
        support: NDArray[np.int64],
        seed: int,
        plan: dict[str, Any],
    ) -> None:
        """Lay the epoch out.

        Args:
            items: Item of each event, int32 [N].
            begin: First event of each session for training, in the order in which they are taken, int64 [n].
            end: One past the last, int64 [n].
            batch_size: Slots, of all processes together.
            options: The model's.
            support: Training events of each item id, int64 [num_items + 1].
            seed: Of samples and dropout.
            plan: Fields of :class:`Plan`: ``accumulate``, ``updates_per_block``, ``limit``, ``max_updates``.

        Raises:
            ValueError: There is nothing to train on.
        """
        self.items, self.options, self.seed = items, options, seed
        self.runs = slot_runs(begin, end, batch_size)
        at_least = 1 if options.samples else 2
        self.steps = self.runs.steps(end=options.end, at_least=at_least)
        if not self.steps:
            raise ValueError(
                "one session at a time has no negatives in its batch, and none are drawn: "
                "set model.samples above 0, or dataset.batch_size and the number of sessions above 1"
            )
        self.plan = Plan(rows=self.steps, batch_size=options.window, **plan)
        self._alias = AliasTable(support.astype(np.float64) ** options.sample_alpha * (support > 0))
        self._chunk: tuple[tuple[int, int], NDArray[np.int32], list[NDArray[np.float32]]] | None = None
        self.device, self.rank, self.world = torch.device("cpu"), 0, 1

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Build for a device, as one of several processes; slot s belongs to process s % world."""
        self.device, self.rank, self.world = device, rank, world

    def block(self, epoch: int, updates: range) -> Block[SessionBatch]:
        """The updates of these numbers."""
        if not updates:
            return Block(epoch, [])
        bounds = [self.plan.rows_of(update) for update in updates]
        first, last = bounds[0][0][0], bounds[-1][-1][1]
        steps, alive = self._steps(epoch, first, last)
        made = []
        for pieces in bounds:
            batches = [SessionBatch(steps[a - first : b - first]) for a, b in pieces]
            rows = int(alive[pieces[0][0] - first : pieces[-1][1] - first].sum())
            made.append(Update(rows, batches))
        return Block(epoch, made)

    def _steps(self, epoch: int, first: int, last: int) -> tuple[list[SessionStep], NDArray[np.int64]]:
        """The steps ``first:last``, and how many slots of all processes are alive in each, int64 [last - first]."""
        lengths = self.runs.lengths
        at = np.arange(first, last)[:, None]
        alive = at < lengths
        flat = self.runs.offset[:-1] + np.minimum(at, lengths - 1)
        position = self.runs.position[flat]
        item = self._on_device(self.items[position].astype(np.int64))
        begins = self.runs.first[flat] if self.options.reset else np.broadcast_to(at == 0, flat.shape).copy()
        reset = self._on_device(begins)
        target = self.items[position + 1]
        drawn, masks = self._random(epoch, first, last)
        steps: list[SessionStep] = []
        counts: NDArray[np.int64] = alive.sum(1)
        edges = [0, *(np.flatnonzero(np.diff(counts)) + 1).tolist(), last - first]
        for start, stop in itertools.pairwise(edges):
            part, slots = slice(start, stop), np.flatnonzero(alive[start])
            column = np.concatenate((target[part][:, slots], drawn[part]), axis=1).astype(np.int64)
            own_masks = [mask[part] for mask in masks]
            steps += self._equal_steps(slots, item[part], reset[part], self._on_device(column), own_masks)
        return steps, counts

    def _equal_steps(
        self,
        slots: NDArray[np.int64],
        item: torch.Tensor,
        reset: torch.Tensor,
        column: torch.Tensor,
        masks: list[NDArray[np.float32]],
    ) -> list[SessionStep]:
        """Steps in which the same slots are alive."""
        own = np.flatnonzero(slots % self.world == self.rank)
        mine = slots[own]
        all_alive = len(slots) == self.runs.slots
        if len(mine) < self.runs.slots:
            chosen = self._on_device(mine)
            item, reset = item.index_select(1, chosen), reset.index_select(1, chosen)
            masks = [mask[:, mine] for mask in masks]
        dropped = [self._on_device(mask).unbind(0) for mask in masks]
        own_column = self._on_device(own)
        alive = None if all_alive else self._on_device(mine // self.world)
        return [
            SessionStep(x, r, alive, c, own_column, len(slots), tuple(mask[n] for mask in dropped))
            for n, (x, r, c) in enumerate(zip(item.unbind(0), reset.unbind(0), column.unbind(0), strict=True))
        ]

    def _random(self, epoch: int, first: int, last: int) -> tuple[NDArray[np.int32], list[NDArray[np.float32]]]:
        """Samples [K, S] and dropout factors [K, slots, width] of the steps ``first:last``."""
        pieces = []
        for chunk in range(first // CHUNK, (last - 1) // CHUNK + 1):
            samples, masks = self._drawn(epoch, chunk)
            part = slice(max(first - chunk * CHUNK, 0), min(last - chunk * CHUNK, CHUNK))
            pieces.append((samples[part], [mask[part] for mask in masks]))
        samples = np.concatenate([piece[0] for piece in pieces])
        masks = [np.concatenate(parts) for parts in zip(*(piece[1] for piece in pieces), strict=True)]
        return samples, masks

    def _drawn(self, epoch: int, chunk: int) -> tuple[NDArray[np.int32], list[NDArray[np.float32]]]:
        if self._chunk is None or self._chunk[0] != (epoch, chunk):
            random = random_of(self.seed, _SAMPLES, epoch, chunk)
            samples = self._alias.draw(random, (CHUNK, self.options.samples))
            random = random_of(self.seed, _DROPOUT, epoch, chunk)
            masks = [
                self._mask(random, probability, (CHUNK, self.runs.slots, width))
                for probability, width in self.options.dropout
            ]
            self._chunk = (epoch, chunk), samples, masks
        return self._chunk[1], self._chunk[2]

    @staticmethod
    def _mask(random: np.random.Generator, probability: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
        keep = np.float32(1 - probability)
        mask = random.random(shape, dtype=np.float32)
        # In place: fresh pages would cost more than the arithmetic.
        np.less(mask, keep, out=mask, casting="unsafe")
        mask *= np.float32(1) / keep if keep else np.float32(0)
        return mask

    def _on_device(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)
