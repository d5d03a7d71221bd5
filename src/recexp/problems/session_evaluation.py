"""Ranks every event of a session after its first among all known items, from the events before it.

The product of all events and the whole catalogue is never held: it is made and counted in tiles of one shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recexp.metrics.next_event import NEVER, NextEventMetrics, NextEventSpec
from recexp.problems.session_split import SessionSet
from recexp.problems.session_tiles import COLUMNS, EvaluatedSessions, SessionLoader, SessionTile

#: Bytes of a tile of float32 scores. From 32 MiB on, the C library would fetch its pages from the system every time,
#: which takes longer than the product.
TILE_BYTES = 24 * 2**20

#: Rows of scores that are compared at once on a processor: their marks stay in its cache.
COMPARED_ROWS = 16

#: Up to so many columns a float32 sum of zeros and ones is exact.
EXACT_COLUMNS = 2**24


@runtime_checkable
class SequentialNetwork(Protocol):
    """A network that reads a session event by event. Both names are methods of its class."""

    def encode(self, items: Tensor) -> Tensor:
        """What is known after each event, from nothing at the start of each column.

        Args:
            items: Time first, 0 behind the end of a session, int64 [T, B].

        Returns:
            [T, B, D]; what stands behind the end of a session is not looked at.
        """
        ...

    def score(self, query: Tensor) -> Tensor:
        """Scores of every id, higher is better, [R, D] to [R, num_items + 1]; column 0 is not looked at."""
        ...


@runtime_checkable
class WindowNetwork(Protocol):
    """A network that looks at the last items."""

    max_len: int

    def catalogue_scores(self, user: Tensor, history: Tensor) -> Tensor:
        """Scores of every id, higher is better, [R, num_items + 1].

        Args:
            user: 0 for all rows: nobody is known, int64 [R].
            history: The last ``max_len`` items before the target, 0 on the left, int64 [R, max_len].
        """
        ...


#: Scores of every id for some places of a tile of sessions: int64 [R] to [R or more, num_items + 1].
Scorer = Callable[[Tensor], Tensor]


def score_rows(ids: int) -> int:
    """Events whose scores are computed together: a power of two that depends on the number of ids alone.

    At most ``COLUMNS``, so that a step of a tile of equally long sessions fills whole tiles of scores; at least 16.
    """
    return max(16, min(COLUMNS, 1 << (max(1, TILE_BYTES // (4 * ids)).bit_length() - 1)))


class SessionEvaluation(nn.Module):
    """Accumulates recall and MRR over a pass through the evaluated sessions."""

    known: Tensor
    unknown: Tensor

    def __init__(self, k: Sequence[int], ties: str, known: Tensor) -> None:
        """Start empty.

        Args:
            k: Cut-offs.
            ties: ``standard``, ``conservative`` or ``median``; see :class:`~recexp.metrics.next_event.NextEventSpec`.
            known: Which ids are ranked, bool [num_items + 1]; id 0 never is.
        """
        super().__init__()
        self.metric = NextEventMetrics(NextEventSpec(tuple(sorted(set(k))), ties))
        known = known.clone()
        known[0] = False
        self.candidates = int(known.sum())
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("unknown", (~known).nonzero().squeeze(1), persistent=False)
        self.rows = score_rows(len(known))
        self._marks: Tensor | None = None

    def metric_names(self) -> list[str]:
        """The keys of :meth:`compute`, in its order."""
        return self.metric.spec.metric_names()

    @torch.no_grad()
    def update(self, network: object, batch: EvaluatedSessions) -> None:
        """Rank the events of a batch.

        Args:
            network: A :class:`SequentialNetwork` (where it is both) or a :class:`WindowNetwork`.
            batch: Whole tiles; one without any adds no event.

        Raises:
            TypeError: The network is neither.
            ValueError: It does not score every id.
        """
        if not batch.tiles:
            # So that the states of all processes are of one type when they are joined.
            self.metric.update(*(torch.zeros(3, 0, dtype=torch.int64, device=self.known.device)))
        for tile in batch.tiles:
            scorer = _scorer(network, tile, self.rows)
            target = tile.target
            parts = zip(tile.row.split(self.rows), target.split(self.rows), strict=True)
            counts = [self._count(scorer(row), item) for row, item in parts]
            below, not_above = (torch.cat(part) for part in zip(*counts, strict=True))
            # A target that is no number is below nothing, and none that is unknown may be ranked.
            never = (not_above == 0) | ~self.known[target]
            greater = torch.where(never, NEVER, self.candidates - not_above)
            equal = torch.where(never, 0, not_above - below - 1)
            self.metric.update(tile.event, greater, equal)

    def _count(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates that score less than each target, and those that score no more, itself included: int64 [R].

        Whatever is no number is in neither, and therefore counts as more. Both are 0 where the target is not finite.
        """
        if scores.shape[1:] != self.known.shape:
            raise ValueError(
                f"the network scores {scores.shape[1]} ids, and the data has {len(self.known)} (padding included)"
            )
        # In float32, as in the other problems: Ascend gathers no bfloat16.
        scores = scores[: len(target)].float()
        own = scores.gather(1, target[:, None])
        own = torch.where(own.isfinite(), own, float("nan"))
        below, not_above = self._compared(scores, own)
        unknown = scores.index_select(1, self.unknown)
        return below - (unknown < own).sum(1), not_above - (unknown <= own).sum(1)

    def _compared(self, scores: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of each row, unknown ones too, that are less than its own value, and no more: int64 [R] each."""
        if scores.device.type != "cpu" or scores.shape[1] > EXACT_COLUMNS:
            return (scores < own).sum(1), (scores <= own).sum(1)
        # On a processor, sums of floats run several times as fast as those of truth values.
        if self._marks is None or self._marks.shape[1] != scores.shape[1]:
            self._marks = torch.empty(COMPARED_ROWS, scores.shape[1])
        below, not_above = [], []
        for part, value in zip(scores.split(COMPARED_ROWS), own.split(COMPARED_ROWS), strict=True):
            marks = self._marks[: len(part)]
            below.append(torch.lt(part, value, out=marks).sum(1))
            not_above.append(torch.le(part, value, out=marks).sum(1))
        return torch.cat(below).to(torch.int64), torch.cat(not_above).to(torch.int64)

    def compute(self) -> dict[str, float]:
        """``recall_at_K`` and ``mrr_at_K`` of each cut-off, over all processes; empty where nothing was added."""
        values: dict[str, float] = self.metric.compute()
        return values

    def reset(self) -> None:
        """Forget the events seen."""
        self.metric.reset()


def _filled(part: Tensor, rows: int) -> Tensor:
    """Zeros below, up to a full tile: another number of rows may be another kernel, and another rounding."""
    return functional.pad(part, (0, 0, 0, rows - len(part)))


def _scorer(network: object, tile: SessionTile, rows: int) -> Scorer:
    if isinstance(network, SequentialNetwork):
        # Behind the last event nothing is predicted.
        hidden = network.encode(tile.items[:-1]).flatten(0, 1)
        return lambda row: network.score(_filled(hidden[row], rows))
    if isinstance(network, WindowNetwork):
        length = network.max_len
        padded = functional.pad(tile.items, (0, 0, length, 0)).view(-1)
        # A row of the tile is ``length`` further down in the padded one.
        back = (torch.arange(length, device=padded.device) + 1) * COLUMNS
        nobody = torch.zeros(rows, dtype=torch.int64, device=padded.device)
        return lambda row: network.catalogue_scores(nobody, _filled(padded[row[:, None] + back], rows))
    raise TypeError(
        f"{type(network).__name__} can rank no session: it has neither encode() and score() nor max_len and "
        "catalogue_scores()"
    )


class _Popularity:
    """Scores every item by its place in an order, whatever happened."""

    def __init__(self, place: Tensor) -> None:
        self.place = place

    def encode(self, items: Tensor) -> Tensor:
        return self.place.new_zeros((*items.shape, 1))

    def score(self, query: Tensor) -> Tensor:
        return self.place.expand(len(query), -1)


def popularity_floor(
    sessions: SessionSet,
    counts: NDArray[np.int64],
    *,
    k: Sequence[int],
    ties: str,
    device: torch.device,
    limit: int | None = None,
) -> dict[str, float]:
    """Metrics of ranking the known items by their number of training events: what a model has to beat.

    Args:
        sessions: What to evaluate.
        counts: Training events of each id, int64 [num_items + 1]; ids with none are not ranked.
        k: Cut-offs.
        ties: As in :class:`SessionEvaluation`.
        device: Where to count.
        limit: As in :class:`~recexp.problems.session_tiles.SessionLoader`.
    """
    # Places of the counts instead of the counts: float32 tells 16 million of them apart, however large they are.
    place = np.unique(counts, return_inverse=True)[1].astype(np.float32)
    network = _Popularity(torch.from_numpy(place).to(device))
    evaluation = SessionEvaluation(k, ties, torch.from_numpy(counts > 0)).to(device)
    for batch in SessionLoader(sessions, eval_batch_size=COLUMNS, device=device, limit=limit):
        evaluation.update(network, batch)
    return evaluation.compute()
