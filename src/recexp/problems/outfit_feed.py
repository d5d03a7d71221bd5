"""Batches of training pairs: which items a batch needs is found once, their features are gathered once."""

from __future__ import annotations

import numpy as np
import torch

from recexp.problems.outfit import OutfitBatch, OutfitNodes
from recexp.problems.outfit_arrays import NOTHING, Ids, categories
from recexp.problems.outfit_items import PlacedItems
from recexp.problems.outfit_pairs import PairMaker, PairRows
from recexp.problems.schedule import Block, Plan, Update, shuffled


class OutfitFeed:
    """The training pairs, in an order of each epoch's own."""

    def __init__(self, placed: PlacedItems, pairs: PairMaker, plan: Plan, *, shuffle: str, seed: int) -> None:
        """Join the parts.

        Args:
            placed: Features of the items.
            pairs: What is trained on.
            plan: How an epoch is cut up.
            shuffle: ``pairs`` at random; ``outfits`` at random, the pairs of each together, which share their items;
                ``none``: in the order of the data, as the reference.
            seed: The run's.
        """
        self.placed, self.pairs, self.plan, self.shuffle, self.seed = placed, pairs, plan, shuffle, seed
        self.rank, self.world = 0, 1
        self._kept: tuple[int, Ids] | None = None

    def place(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        """Build for a device, as one of several processes."""
        self.rank, self.world = rank, world
        self.placed.place(device)

    def _order(self, epoch: int) -> Ids:
        if self._kept is None or self._kept[0] != epoch:
            count, each = len(self.pairs), self.pairs.per_outfit
            if self.shuffle == "pairs":
                order = shuffled(count, self.seed, epoch)
            elif self.shuffle == "outfits":
                order = (shuffled(count // each, self.seed, epoch)[:, None] * each + np.arange(each)).reshape(-1)
            else:
                order = np.arange(count)
            self._kept = (epoch, order)
        return self._kept[1]

    def block(self, epoch: int, updates: range) -> Block[OutfitBatch]:
        """The updates of these numbers."""
        bounds = [self.plan.rows_of(update) for update in updates]
        if not bounds:
            return Block(epoch, [])
        order = self._order(epoch)
        own = [order[a:b][self.rank :: self.world] for batches in bounds for a, b in batches]
        rows = self.pairs.take(epoch, np.concatenate(own))
        cuts = np.cumsum([0, *(len(piece) for piece in own)])
        made = iter(self._batches(rows, cuts))
        return Block(
            epoch, [Update(batches[-1][1] - batches[0][0], [next(made) for _ in batches]) for batches in bounds]
        )

    def _batches(self, rows: PairRows, cuts: Ids) -> list[OutfitBatch]:
        """Rows cut up; distinct items of all batches are found by one sort."""
        count = len(cuts) - 1
        batch = np.repeat(np.arange(count), np.diff(cuts))
        items, span = rows.items, self.placed.data.num_items
        used = items != NOTHING
        distinct, inverse = np.unique((batch[:, None] * span + items)[used], return_inverse=True)
        first = np.searchsorted(distinct, np.arange(count + 1) * span)
        node = np.zeros(items.shape, dtype=np.int64)
        node[used] = inverse
        node = np.where(used, node - first[batch][:, None], 0)
        category = np.where(used, categories(self.placed.data, items), 0)
        device = self.placed.device
        whole = [torch.from_numpy(array).to(device) for array in (node, category, rows.member)]
        made = []
        for number in range(count):
            own = slice(int(cuts[number]), int(cuts[number + 1]))
            chosen = distinct[first[number] : first[number + 1]] - number * span
            outfits = OutfitNodes(*(array[own] for array in whole))
            made.append(OutfitBatch(self.placed.batch(chosen), outfits))
        return made
