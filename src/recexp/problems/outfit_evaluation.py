"""Scores frozen questions with a model: every item is projected once, then outfits are scored in large batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, distributed, nn

from recexp.problems.outfit import ItemStep, OutfitNodes, QuestionStep
from recexp.problems.outfit_arrays import NOTHING, Ids, categories
from recexp.problems.outfit_items import PlacedItems
from recexp.problems.outfit_protocols import metrics, rows_of
from recexp.problems.outfit_questions import Questions, Rows

#: Items that are projected at a time: their pictures take 32 MiB in single precision.
ITEMS_AT_ONCE = 4096


class OutfitEvaluation(nn.Module):
    """Holds the scores of all rows until all are there."""

    def __init__(self, questions: Sequence[Questions], ties: str) -> None:
        super().__init__()
        self.questions, self.ties = tuple(questions), ties
        self._scores: list[Tensor] = []
        self.reset()

    def update(self, step: QuestionStep, scores: Tensor) -> None:
        """Add the scores [B, K] of a step."""
        held = self._scores[step.rows]
        if held.device != scores.device:
            self._scores = [one.to(scores.device) for one in self._scores]
            held = self._scores[step.rows]
        end = step.start + step.stride * len(scores)
        held[step.start : end : step.stride] = scores.float()

    def compute(self) -> dict[str, float]:
        """All metrics over all processes."""
        if distributed.is_available() and distributed.is_initialized():
            # Each row is one process's own; all others hold zeros.
            for one in self._scores:
                distributed.all_reduce(one)
        return metrics(self.questions, [one.cpu().numpy() for one in self._scores], self.ties)

    def reset(self) -> None:
        """Forget."""
        self._scores = [torch.zeros(rows.member.shape[:2]) for rows in rows_of(self.questions)]


class QuestionLoader:
    """First the items that any question needs, then the questions; all processes project, each scores its share."""

    def __init__(
        self, placed: PlacedItems, questions: Sequence[Questions], batch_size: int, *, rank: int, world: int
    ) -> None:
        self.placed, self.batch_size, self.rank, self.world = placed, batch_size, rank, world
        self.sets = rows_of(questions)
        self.items = needed(self.sets)

    def __len__(self) -> int:
        steps = sum(math.ceil(len(rows) / self.batch_size) for rows in self.sets)
        return math.ceil(len(self.items) / ITEMS_AT_ONCE) + steps

    def __iter__(self) -> Iterator[ItemStep | QuestionStep]:
        for first in range(0, len(self.items), ITEMS_AT_ONCE):
            yield ItemStep(self.placed.batch(self.items[first : first + ITEMS_AT_ONCE]), first == 0)
        for number, rows in enumerate(self.sets):
            for first in range(0, len(rows), self.batch_size):
                own = slice(first + self.rank, min(first + self.batch_size, len(rows)), self.world)
                outfits = nodes(self.placed, self.items, rows, own)
                yield QuestionStep(number, own.start, self.world, outfits)


def needed(sets: Sequence[Rows]) -> Ids:
    """Distinct items of some rows, ascending."""
    items = np.unique(np.concatenate([np.unique(rows.items) for rows in sets]))
    used: Ids = items[items != NOTHING]
    return used


def nodes(placed: PlacedItems, items: Ids, rows: Rows, chosen: slice) -> OutfitNodes:
    """Some rows as graphs on the device, their nodes as places in ascending ``items``."""
    own = rows.items[chosen]
    used = own != NOTHING
    place = np.where(used, np.searchsorted(items, own), 0)
    category = np.where(used, categories(placed.data, own), 0)
    arrays = (place, category, rows.member[chosen])
    return OutfitNodes(*(torch.from_numpy(np.ascontiguousarray(array)).to(placed.device) for array in arrays))
