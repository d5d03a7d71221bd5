"""Scores a user's outfits and finds what would complete them, with items of the dataset and of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recexp.datasets.outfits import Outfits
from recexp.errors import DataError
from recexp.problems.outfit import ItemBatch, ItemStep, OutfitNodes, QuestionStep
from recexp.problems.outfit_arrays import NOTHING, Ids, Pool, padded
from recexp.problems.outfit_evaluation import ITEMS_AT_ONCE
from recexp.problems.outfit_items import PlacedItems
from recexp.problems.outfit_requests import GivenItem, Request

#: Candidates beside which an outfit is scored at a time.
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class _Scored:
    """Rows to score, [Q, W], whose nodes are places among the dataset's needed items, then the user's."""

    node: Ids
    category: Ids
    used: np.ndarray[Any, np.dtype[np.bool_]]


class OutfitAnswers:
    """One pass over a trained network: ``steps`` go through it, ``answers`` reads what came out."""

    def __init__(self, data: Outfits, placed: PlacedItems, requests: Sequence[Request], *, top: int) -> None:
        """Lay out what has to be scored.

        Args:
            data: The dataset.
            placed: Its features, where the network is.
            requests: Of the user.
            top: Best items that complete an outfit.
        """
        self.data, self.placed, self.requests, self.top = data, placed, requests, top
        tested = np.asarray(data.part("test"), dtype=np.int64)
        known = padded(data, tested)
        self._pool = Pool.of(data, np.asarray(data.part("train"), dtype=np.int64))
        wanted = self._candidates(sorted({category for request in requests for category in request.complete}))
        given = [item.number for request in requests for item in request.items if item.number is not None]
        candidates = np.concatenate([wanted, np.array(given, dtype=np.int64)])
        self._items = np.union1d(known[known != NOTHING], candidates)
        self._own = [item for request in requests for item in request.items if item.number is None]
        self._order = np.argsort([item.category for item in self._own], kind="stable")
        self._place_of_own = {id(self._own[at]): len(self._items) + n for n, at in enumerate(self._order)}
        self._outfits = (self._of_dataset(known), self._of_requests())
        # A request that any item may complete has a row for each: they exist one batch at a time.
        completed = [int(self._pool.sizes[list(request.complete)].sum()) for request in requests]
        self._counts = [*(len(rows.node) for rows in self._outfits), *completed]

    def _candidates(self, categories: Sequence[int]) -> Ids:
        ranges = [self._pool.items[self._pool.offsets[c] : self._pool.offsets[c + 1]] for c in categories]
        return np.concatenate([np.zeros(0, dtype=np.int64), *ranges])

    def _place(self, item: GivenItem) -> int:
        if item.number is None:
            return self._place_of_own[id(item)]
        return int(np.searchsorted(self._items, item.number))

    def _of_dataset(self, known: Ids) -> _Scored:
        """Real outfits that the network has not seen: what a score is compared with."""
        used = known != NOTHING
        place = np.where(used, np.searchsorted(self._items, known), 0)
        category = np.where(used, self.data.category_of(np.maximum(known, 0)), 0)
        return _Scored(place, category, used)

    def _of_requests(self) -> _Scored:
        width = max(len(request.items) for request in self.requests)
        node, category = (np.zeros((len(self.requests), width), dtype=np.int64) for _ in range(2))
        used = np.zeros(node.shape, dtype=bool)
        for row, request in enumerate(self.requests):
            count = len(request.items)
            node[row, :count] = [self._place(item) for item in request.items]
            category[row, :count] = [item.category for item in request.items]
            used[row, :count] = True
        return _Scored(node, category, used)

    def _rows(self, number: int) -> Callable[[slice], _Scored]:
        """What gives some rows of one of the sets: of the dataset, of the user, of what completes each request."""
        if number >= len(self._outfits):
            return self._completed(number - len(self._outfits))
        rows = self._outfits[number]
        return lambda own: _Scored(rows.node[own], rows.category[own], rows.used[own])

    def _completed(self, row: int) -> Callable[[slice], _Scored]:
        outfits, candidates = self._outfits[1], self._candidates(self.requests[row].complete)
        used = outfits.used[row]
        place, category = outfits.node[row, used], outfits.category[row, used]

        def rows(own: slice) -> _Scored:
            chosen = candidates[own]
            repeat = (len(chosen), 1)
            return _Scored(
                np.hstack((np.tile(place, repeat), np.searchsorted(self._items, chosen)[:, None])),
                np.hstack((np.tile(category, repeat), self.data.category_of(chosen)[:, None])),
                np.ones((len(chosen), len(place) + 1), dtype=bool),
            )

        return rows

    def steps(self) -> Iterator[ItemStep | QuestionStep]:
        """What the network is asked, in this order."""
        for first in range(0, len(self._items), ITEMS_AT_ONCE):
            yield ItemStep(self.placed.batch(self._items[first : first + ITEMS_AT_ONCE]), first == 0)
        if self._own:
            yield ItemStep(self._own_items(), not len(self._items))
        for number, count in enumerate(self._counts):
            rows = self._rows(number)
            for first in range(0, count, ROWS_AT_ONCE):
                some = rows(slice(first, first + ROWS_AT_ONCE))
                arrays = (some.node, some.category, some.used[:, None])
                nodes = OutfitNodes(*(torch.from_numpy(np.ascontiguousarray(a)).to(self.placed.device) for a in arrays))
                yield QuestionStep(number, first, 1, nodes)

    def _own_items(self) -> ItemBatch:
        items = [self._own[at] for at in self._order]
        category = np.array([item.category for item in items])
        starts = np.flatnonzero(np.diff(category, prepend=-1))
        device, known = self.placed.device, self.data.modalities
        words = [torch.tensor(item.words, dtype=torch.int64) for item in items] if "text" in known else None
        counts = torch.tensor([len(own) for own in words]) if words is not None else None
        return ItemBatch(
            categories=category[starts].tolist(),
            bounds=[*starts.tolist(), len(items)],
            category=torch.from_numpy(category).to(device),
            # As pictures of the dataset are kept.
            image=_pictures(items).to(device) if "image" in known else None,
            words=None if words is None else torch.cat(words).to(device),
            owner=None if counts is None else torch.repeat_interleave(torch.arange(len(items)), counts).to(device),
        )

    def answers(self, scored: Sequence[dict[str, Tensor]]) -> list[dict[str, Any]]:
        """One for each request, from what ``steps`` gave: scores by modality and, as ``score``, of all together.

        Raises:
            DataError: a score is no number.
        """
        found = iter([one for one in scored if one])
        sets = [_joined([next(found) for _ in range(0, count, ROWS_AT_ONCE)]) for count in self._counts]
        if not all(np.isfinite(scores).all() for one in sets for scores in one.values()):
            raise DataError(
                "the model's scores are no finite numbers: its training has diverged. Name the checkpoint of another "
                "run: ckpt=DIRECTORY."
            )
        real, own, completed = sets[0]["score"], sets[1], sets[2:]
        made = []
        for row, request in enumerate(self.requests):
            by_modality = {name: float(values[row]) for name, values in own.items() if name != "score"}
            answer: dict[str, Any] = {
                "id": request.id,
                "score": float(own["score"][row]),
                "scores": by_modality,
                "above_real_outfits": float(np.mean(real < own["score"][row])),
            }
            if request.complete:
                scores = completed[row].get("score", np.zeros(0, np.float32))
                answer["complete"] = self._best(self._candidates(request.complete), scores)
            made.append(answer)
        return made

    def _best(self, candidates: Ids, scores: np.ndarray[Any, np.dtype[np.float32]]) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")[: self.top]
        categories = self.data.category_of(candidates[order])
        return [
            {
                "item": str(self.data.item_labels[candidates[at]]),
                "category": self.data.categories[category].name or self.data.categories[category].id,
                "score": float(scores[at]),
            }
            for at, category in zip(order, categories, strict=True)
        ]


def _pictures(items: Sequence[GivenItem]) -> Tensor:
    return torch.tensor([item.image for item in items], dtype=torch.float32).half().float()


def _joined(steps: Sequence[dict[str, Tensor]]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Scores of the rows of one set by name; nothing where it has no rows."""
    names = steps[0] if steps else ()
    return {name: np.concatenate([step[name].float().cpu().numpy()[:, 0] for step in steps]) for name in names}
