"""Sessions in memory: the clicks of each, one behind the other, and what can be left out of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

COLUMNS = {"label": np.int64, "length": np.int64, "item": np.int32, "time": np.int64}


@dataclass(frozen=True)
class Sessions:
    """S sessions with E events in all.

    ``label`` int64[S]: the source's ids. ``length`` int64[S]: events of each. ``item`` int32[E] and ``time`` int64[E]:
    the events, session by session, each in the order of time.
    """

    label: Ints
    length: Ints
    item: Codes
    time: Ints

    def __len__(self) -> int:
        """Number of sessions."""
        return len(self.label)

    @cached_property
    def offsets(self) -> Ints:
        """int64[S + 1]: the events of session s are ``offsets[s]:offsets[s + 1]``."""
        return _starts(self.length)

    def first(self) -> Ints:
        """int64[S]: time of the first event; no session may be empty."""
        return self.time[self.offsets[:-1]]

    def last(self) -> Ints:
        """int64[S]: time of the last event; no session may be empty."""
        return self.time[self.offsets[1:] - 1]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The four arrays by name."""
        return {"label": self.label, "length": self.length, "item": self.item, "time": self.time}

    def joined(self, other: Sessions) -> Sessions:
        """These sessions, then the others."""
        pairs = ((mine, other.columns()[name]) for name, mine in self.columns().items())
        return Sessions(*(np.concatenate(pair) for pair in pairs))

    def keep_events(self, mask: Mask) -> Sessions:
        """Only the events of ``mask`` bool[E]; a session may be left empty."""
        before = np.concatenate(([0], np.cumsum(mask)))
        length = before[self.offsets[1:]] - before[self.offsets[:-1]]
        return Sessions(self.label, length, self.item[mask], self.time[mask])

    def keep(self, mask: Mask) -> Sessions:
        """Only the sessions of ``mask`` bool[S]."""
        events = np.repeat(mask, self.length)
        return Sessions(self.label[mask], self.length[mask], self.item[events], self.time[events])

    def take(self, order: Ints) -> Sessions:
        """The sessions ``order`` int64[*], in that order."""
        length = self.length[order]
        starts = _starts(length)
        event = np.repeat(self.offsets[order] - starts[:-1], length) + np.arange(starts[-1])
        return Sessions(self.label[order], length, self.item[event], self.time[event])


def group(session: Ints, item: Codes, time: Ints) -> Sessions:
    """Sessions from events in the order of the source: sorted by time within each; ties keep the source's order."""
    if not _is_grouped(session, time):
        order = np.lexsort((time, session))
        session, item, time = session[order], item[order], time[order]
    start = _first_rows(session)
    return Sessions(session[start], np.diff(np.append(start, len(session))), item, time)


def _is_grouped(session: Ints, time: Ints) -> bool:
    """Whether each session stands in one piece and in order, as logs usually have it: then nothing is sorted."""
    if ((time[1:] < time[:-1]) & (session[1:] == session[:-1])).any():
        return False
    labels = np.sort(session[_first_rows(session)])
    return not (labels[1:] == labels[:-1]).any()


def _first_rows(session: Ints) -> Ints:
    return np.flatnonzero(np.concatenate((np.ones(min(1, len(session)), np.bool_), session[1:] != session[:-1])))


def _starts(length: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(length))).astype(np.int64)
