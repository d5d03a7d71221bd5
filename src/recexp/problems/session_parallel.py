"""Session-parallel mini-batches: B slots run through one session each, and take the next one when theirs is over.

Hidasi et al. 2016 (arXiv 1511.06939), section 3.1.1. The whole schedule of an epoch is laid out beforehand, so that a
step is a gather: what a slot predicts from is one run of event positions, session after session.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: How an epoch ends. ``official``: slots without a session leave, the batch shrinks until it is empty (or, where the
#: batch itself is the only source of negatives, until one slot is left). ``legacy``: with the first slot that finds no
#: session any more; what the others had left is not trained on.
END_RULES = ("official", "legacy")
_SESSIONS_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class SlotRuns:
    """What each slot predicts from, step by step.

    Attributes:
        position: Positions of the input events, slot after slot, int [P]; the target is the event behind.
        first: Whether the position is the first of its session, bool [P].
        offset: ``offset[s]:offset[s + 1]`` is the run of slot s, int64 [slots + 1].
    """

    position: NDArray[np.signedinteger]
    first: NDArray[np.bool_]
    offset: NDArray[np.int64]

    @property
    def slots(self) -> int:
        """Slots; fewer than asked for where there are fewer sessions."""
        return len(self.offset) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each slot, int64 [slots]."""
        return np.diff(self.offset)

    def steps(self, *, end: str, at_least: int) -> int:
        """Steps of an epoch.

        Args:
            end: One of ``END_RULES``.
            at_least: Slots that have to be alive: 2 where negatives come from the batch alone, else 1.
        """
        lengths = np.sort(self.lengths)
        if len(lengths) < at_least:
            return 0
        return int(lengths[0] if end == "legacy" else lengths[-at_least])


def slot_runs(begin: NDArray[np.int64], end: NDArray[np.int64], slots: int) -> SlotRuns:
    """Lay sessions out.

    Args:
        begin: Position of the first event of each session, in the order in which they are taken, int64 [n].
        end: One past its last event, int64 [n]. A session of one event has nothing to predict and is left out.
        slots: Slots B; a session goes to the one that is free first, of several to the one with the lowest number.

    Raises:
        ValueError: No session has two events.
    """
    usable = end - begin > 1
    begin, steps = begin[usable], (end - begin)[usable] - 1
    if not len(begin):
        raise ValueError("no session for training has two events: there is nothing to predict")
    slots = min(slots, len(begin))
    slot = _assigned(steps, slots)
    order = np.argsort(slot, kind="stable")
    begin, steps = begin[order], steps[order]
    behind = np.cumsum(steps)
    total = int(behind[-1])
    kind = np.int32 if int(end.max()) < np.iinfo(np.int32).max else np.int64
    position = np.repeat((begin - (behind - steps)).astype(kind), steps)
    position += np.arange(total, dtype=kind)
    first = np.zeros(total, dtype=np.bool_)
    first[behind - steps] = True
    last = np.cumsum(np.bincount(slot, minlength=slots)) - 1
    offset = np.concatenate(([0], behind[last]))
    return SlotRuns(position, first, offset.astype(np.int64))


def _assigned(steps: NDArray[np.int64], slots: int) -> NDArray[np.int32]:
    """The slot of each session, int32 [n]."""
    slot = np.empty(len(steps), dtype=np.int32)
    free = list(range(slots))  # step at which a slot is free, times the number of slots, plus the slot: a heap
    for start in range(0, len(steps), _SESSIONS_AT_A_TIME):
        taken = []
        for duration in (steps[start : start + _SESSIONS_AT_A_TIME] * slots).tolist():
            earliest = free[0]
            taken.append(earliest)
            heapq.heapreplace(free, earliest + duration)
        slot[start : start + len(taken)] = np.array(taken, dtype=np.int64) % slots
    return slot
