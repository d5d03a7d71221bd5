"""Training pairs: an outfit, and the same outfit with one item replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recexp.datasets.outfits import Outfits
from recexp.problems.negatives import hashed, stream_key
from recexp.problems.outfit_arrays import NOTHING, Ids, Mask, Pool, categories, in_place_of, padded

#: Name of the stream of draws.
PAIR_STREAM = 5


@dataclass(frozen=True)
class PairRows:
    """Pairs as rows of nodes: ``items`` int64 [P, W + 1], the last column what comes instead, and who is member.

    ``member`` bool [P, 2, W + 1]: of the real outfit, and of the other one.
    """

    items: Ids
    member: Mask


class PairMaker:
    """Pair p is of outfit p // n; each item is replaced once, the rest of the n pairs replace a random one again."""

    def __init__(
        self, data: Outfits, outfits: Ids, *, per_outfit: int, negatives: Mapping[str, Any], seed: int
    ) -> None:
        """Prepare the rows.

        Args:
            data: The dataset.
            outfits: Of training.
            per_outfit: Pairs of an outfit, n. An outfit of more items has other ones replaced in each epoch.
            negatives: ``category``: that of the item that comes instead: ``random``, ``same``, one of both (``mixed``)
                or by ``frequency`` (any training item); ``refresh``: ``epoch`` or ``never``.
            seed: The run's.
        """
        self.data, self.per_outfit, self.seed = data, per_outfit, seed
        self.negatives = negatives
        self.rows = padded(data, outfits)
        self.category = categories(data, self.rows)
        self.lengths = (self.rows != NOTHING).sum(axis=1)
        self.pool = Pool.of(data, outfits)

    def __len__(self) -> int:
        """Pairs of an epoch."""
        return len(self.rows) * self.per_outfit

    def take(self, epoch: int, pairs: Ids) -> PairRows:
        """Pairs of an epoch."""
        own, slot = np.divmod(pairs, self.per_outfit)
        length = self.lengths[own]
        key = stream_key(self.seed, PAIR_STREAM, 0 if self.negatives["refresh"] == "never" else epoch)
        draws = hashed(key, torch.from_numpy(pairs), 4).numpy()
        # Outfits longer than the number of pairs begin somewhere else in each epoch.
        turn = hashed(key + 1, torch.from_numpy(own), 1).numpy()[:, 0] % np.maximum(length, 1)
        in_turn = np.where(length > self.per_outfit, (slot + turn) % np.maximum(length, 1), slot)
        position = np.where(in_turn < length, in_turn, draws[:, 0] % np.maximum(length, 1))
        rows, category = self.rows[own], self.category[own]
        replaced = rows[np.arange(len(rows)), position]
        instead = self._instead(category[np.arange(len(rows)), position], replaced, draws)
        kept, stays = in_place_of(category, position, categories(self.data, instead))
        member = np.zeros((len(rows), 2, rows.shape[1] + 1), dtype=bool)
        member[:, 0, :-1] = rows != NOTHING
        member[:, 1, :-1] = kept
        member[:, 1, -1] = stays
        return PairRows(np.concatenate((rows, instead[:, None]), axis=1), member)

    def _instead(self, category: Ids, replaced: Ids, draws: Ids) -> Ids:
        kind = self.negatives["category"]
        if kind == "frequency":
            return self.pool.items[draws[:, 2] % len(self.pool.items)]
        same = self.pool.other_than(category, draws[:, 2], replaced)
        if kind == "same":
            return same
        filled = self.pool.filled()
        drawn = self.pool.of_categories(filled[draws[:, 1] % len(filled)], draws[:, 2])
        return drawn if kind == "random" else np.where(draws[:, 3] % 2, same, drawn)
