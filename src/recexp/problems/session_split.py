"""Which sessions are trained on, which are evaluated, and which items are known; a session is a user of the events.

Two kinds of data are split. Where the dataset states the part of each session (``Events.part``), that is the split, as
in the official GRU4Rec protocol (RSC15: the sessions that end on the last day are for test). Elsewhere the latest
sessions by their last event are held out. Either way a model must not have seen the future of what it is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recexp.datasets.events import TEST, TRAIN, VALIDATION
from recexp.errors import DataError

if TYPE_CHECKING:
    from recexp.datasets.events import Events

LEAKAGE_RULES = ("refuse", "allow")

#: Fewer events than this, and a session has nothing to predict.
MIN_EVENTS = 2

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class SessionSet:
    """Sessions to evaluate, in the order of their first event (ties: user id), each of two events or more.

    The first event is that of the whole session, also where its item is unknown and was removed.

    Attributes:
        users: Ids, int64 [n].
        items: The sessions' known items by time, one session behind the other, int64 [E].
        offsets: ``offsets[s]:offsets[s + 1]`` are the items of session s, int64 [n + 1].
    """

    users: Ids
    items: Ids
    offsets: Ids

    def __len__(self) -> int:
        """Number of sessions."""
        return len(self.users)

    @property
    def targets(self) -> int:
        """Events that are predicted: all but the first of each session."""
        return len(self.items) - len(self.users)


@dataclass(frozen=True)
class SessionSplit:
    """What :func:`session_split` returns.

    Attributes:
        train: User ids of the training sessions in the order of the time of their first event (ties: user id),
            int64 [n].
        validation: None unless one was asked for.
        test: The test sessions.
        known: Items with a training event, the catalogue that is ranked; ``known[0]`` is False, bool [num_items + 1].
        left_out: Counts of what is neither trained on nor evaluated: ``single_event_sessions`` of all parts;
            ``test_unknown_events``, events of test sessions whose item is unknown; ``test_short_sessions``, test
            sessions that are shorter than 2 without these; the same two of validation.
        text: The split in one line, for the protocol.
    """

    train: Ids
    validation: SessionSet | None
    test: SessionSet
    known: Flags
    left_out: dict[str, int]
    text: str


def session_split(events: Events, *, validate: bool, test_share: float, leakage: str) -> SessionSplit:
    """Split the sessions.

    Sessions of one event are left out first. Where the dataset states parts, TEST is for test; without ``validate``
    all others are for training, as in the official protocol, and with it TRAIN is for training and VALIDATION for
    validation. Elsewhere, of n sessions the ``round(test_share * n)`` that end last (at least one) are for test, and
    with them all that end at the same time as the first of these, so that every training session ends before every
    test session does; ``validate`` holds out the latest of the rest by the same rule.

    In evaluated sessions, events of items without a training event are removed, then sessions shorter than 2.

    Args:
        events: As the dataset offers them.
        validate: Hold out sessions for validation.
        test_share: Share of the sessions that is held out where the dataset states no parts, in (0, 1).
        leakage: ``refuse`` an evaluated session that ends no later than the last training session, or ``allow`` it.

    Raises:
        DataError: The training sessions end after the first evaluated session has ended.
        ValueError: Nothing is left to train on or to evaluate, or an argument is not legal.
    """
    if leakage not in LEAKAGE_RULES:
        raise ValueError(f"leakage={leakage!r} is not known: choose one of {', '.join(LEAKAGE_RULES)}")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share}: a share of the sessions, more than 0 and less than 1")
    offsets = np.asarray(events.offsets)
    lengths = np.diff(offsets)
    users = np.flatnonzero(lengths >= MIN_EVENTS)
    if not len(users):
        raise ValueError("no session has two events: there is nothing to predict")
    last = np.asarray(events.time[offsets[users + 1] - 1])
    parts, text = _stated(events, users, validate) if events.part is not None else _latest(last, validate, test_share)
    leaks = _leaks(parts, last)
    if leaks and leakage == "refuse":
        raise DataError(leaks)
    first = np.asarray(events.time[offsets[users]])
    in_order = users[np.argsort(first, kind="stable")]
    part = np.full(len(lengths), -1, dtype=np.int8)
    part[users] = parts
    train = in_order[part[in_order] == TRAIN]
    known = training_counts(events, train) > 0
    left_out = {"single_event_sessions": int(np.count_nonzero(lengths == 1))}
    sets = {
        name: _evaluated(events, in_order[part[in_order] == number], known, name, left_out)
        for name, number in (("test", TEST), ("validation", VALIDATION))
        if number == TEST or validate
    }
    if validate:
        text += ", trained without the validation sessions"
    if leaks:
        text += ", some end before the training does"
    return SessionSplit(train, sets.get("validation"), sets["test"], known, left_out, text)


def training_counts(events: Events, users: Ids) -> Ids:
    """Events of each item in the sessions of some users, int64 [num_items + 1]."""
    offsets = np.asarray(events.offsets)
    chosen = np.zeros(len(offsets) - 1, dtype=np.bool_)
    chosen[users] = True
    kept = np.repeat(chosen, np.diff(offsets))
    items = events.item if kept.all() else events.item[kept]
    return np.bincount(items, minlength=events.num_items + 1)


def _stated(events: Events, users: Ids, validate: bool) -> tuple[NDArray[np.int8], str]:
    """Part of each session as the dataset states it, int8 [n], and the split in words."""
    assert events.part is not None
    parts = np.asarray(events.part)[users].astype(np.int8)
    wanted = {"test": TEST, "validation": VALIDATION} if validate else {"test": TEST}
    for name, number in wanted.items():
        if not (parts == number).any():
            raise ValueError(f"the dataset states no {name} session of two events or more")
    if not validate:
        parts[parts == VALIDATION] = TRAIN
    if not (parts == TRAIN).any():
        raise ValueError("the dataset states no training session of two events or more")
    return parts, "the dataset's own test sessions"


def _latest(last: Ids, validate: bool, share: float) -> tuple[NDArray[np.int8], str]:
    """Part of each session by the time of its last event, int8 [n], and the split in words."""
    parts = np.full(len(last), TRAIN, dtype=np.int8)
    for name, number in (("test", TEST), ("validation", VALIDATION)) if validate else (("test", TEST),):
        rest = np.flatnonzero(parts == TRAIN)
        held_out = max(1, round(share * len(rest)))
        # Ties with the first session that is held out go with it: else a training session would end with it.
        bound = np.partition(last[rest], len(rest) - held_out)[len(rest) - held_out]
        parts[rest[last[rest] >= bound]] = number
        if not (parts == TRAIN).any():
            raise ValueError(
                f"no session is left to train on: of {len(rest)}, the {held_out} that end last are for {name}, and "
                "with them all that end at the same time as the first of these"
            )
    return parts, f"the latest {share * 100:g} % of the sessions by their last event"


def _leaks(parts: NDArray[np.int8], last: Ids) -> str:
    """What is wrong with the split in time; empty where nothing is."""
    end = int(last[parts == TRAIN].max())
    for name, number in (("test", TEST), ("validation", VALIDATION)):
        ends = last[parts == number]
        early = int(np.count_nonzero(ends <= end))
        if early:
            return (
                f"{early:,} of {len(ends):,} {name} sessions end before the training sessions do: the first {name} "
                f"session ends at time {int(ends.min())}, the last training session at {end}. The model would "
                "have seen the future of the sessions it is measured on, and its numbers would be too good. Order the "
                "split by time, or accept it with problem.leakage=allow."
            )
    return ""


def _evaluated(events: Events, users: Ids, known: Flags, name: str, left_out: dict[str, int]) -> SessionSet:
    """The sessions of these users without unknown items; what that leaves out is counted."""
    offsets = np.asarray(events.offsets)
    lengths = offsets[users + 1] - offsets[users]
    # Position of each event: its place in the joined sessions, moved from where its session begins there to where it
    # begins in the data.
    begin = np.cumsum(lengths) - lengths
    items = events.item[np.arange(lengths.sum()) + np.repeat(offsets[users] - begin, lengths)].astype(np.int64)
    session = np.repeat(np.arange(len(users)), lengths)
    keep = known[items]
    count = np.bincount(session[keep], minlength=len(users))
    long_enough = count >= MIN_EVENTS
    left_out[f"{name}_unknown_events"] = int(np.count_nonzero(~keep))
    left_out[f"{name}_short_sessions"] = int(np.count_nonzero(~long_enough))
    if not long_enough.any():
        raise ValueError(f"no {name} session has two events of items that occur in training: nothing can be evaluated")
    kept = count[long_enough]
    return SessionSet(
        users=users[long_enough].astype(np.int64),
        items=items[keep & long_enough[session]],
        offsets=np.concatenate(([0], np.cumsum(kept))).astype(np.int64),
    )
