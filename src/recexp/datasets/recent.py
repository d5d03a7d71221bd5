"""The most recent share of the training pairs: where it begins, found without holding all sessions in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from recexp.datasets.sessions import Ints, Sessions

_BINS = 4096
_IN_MEMORY = 1 << 20

Tables = Callable[[], Iterator[tuple[Ints, Ints, Ints]]]
"""Gives (time of the last event, label, pairs) of all training sessions, some at a time, as often as it is called."""


@dataclass(frozen=True)
class Cut:
    """Sessions in the order of (time of the last event, label) from here on are kept.

    Attributes:
        time: Time of the last event of the first session that is kept.
        label: Its label.
        length: Events that are kept of it, counted from its beginning.
    """

    time: int
    label: int
    length: int

    def apply(self, sessions: Sessions) -> Sessions:
        """What is kept of training sessions."""
        last = sessions.last()
        at = (last == self.time) & (sessions.label == self.label)
        kept = sessions.keep(at | (last > self.time) | ((last == self.time) & (sessions.label > self.label)))
        is_cut = (kept.last() == self.time) & (kept.label == self.label)
        place = np.arange(len(kept.item)) - np.repeat(kept.offsets[:-1], kept.length)
        return kept.keep_events(~np.repeat(is_cut, kept.length) | (place < self.length))


def cut_before(tables: Tables, needed: int) -> Cut:
    """The cut that keeps exactly the last ``needed`` pairs (an event and all that came before it in its session).

    Sessions are in the order of their last event's time, then of their label. A session's own pairs are in the order
    from the longest to the shortest, as SR-GNN's preparation writes them: of the first session that is kept, the
    shortest pairs are the last ones, and its first events are what gives these.

    Args:
        tables: The training sessions.
        needed: At least 1 and at most as many as there are.
    """
    low, high = _range(tables)
    above = 0
    while True:
        width = -(-(high - low + 1) // _BINS)
        pairs, count = _histogram(tables, low, high, width)
        reached = above + np.cumsum(pairs[::-1])[::-1]
        chosen = int(np.flatnonzero(reached >= needed)[-1])
        above += int(pairs[chosen + 1 :].sum())
        low, high = low + chosen * width, min(high, low + (chosen + 1) * width - 1)
        if width == 1 or count[chosen] <= _IN_MEMORY:
            return _exactly(tables, low, high, needed - above)


def _range(tables: Tables) -> tuple[int, int]:
    ends = [(int(last.min()), int(last.max())) for last, _, _ in tables() if len(last)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _histogram(tables: Tables, low: int, high: int, width: int) -> tuple[Ints, Ints]:
    """Pairs and sessions by the time of the last event, in steps of ``width``."""
    pairs, count = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    for last, _, own in tables():
        inside = (last >= low) & (last <= high)
        place = (last[inside] - low) // width
        np.add.at(pairs, place, own[inside])
        count += np.bincount(place, minlength=_BINS)
    return pairs, count


def _exactly(tables: Tables, low: int, high: int, needed: int) -> Cut:
    parts = [[each[(last >= low) & (last <= high)] for each in (last, label, own)] for last, label, own in tables()]
    last, label, own = (np.concatenate([part[column] for part in parts]) for column in range(3))
    order = np.lexsort((label, last))[::-1]
    reached = np.cumsum(own[order])
    place = int(np.searchsorted(reached, needed))
    first = order[place]
    missing = needed - (int(reached[place - 1]) if place else 0)
    return Cut(int(last[first]), int(label[first]), missing + 1)
