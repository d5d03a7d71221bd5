"""The recipe that makes a dataset of sessions out of clicks, part by part, in memory that does not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import TEST, TRAIN, VALIDATION
from recexp.datasets.parallel import in_order
from recexp.datasets.recent import Cut, cut_before
from recexp.datasets.session_arrays import Boundaries, Ordered, Sample
from recexp.datasets.session_recipe import Recipe
from recexp.datasets.session_spill import Spilled
from recexp.datasets.sessions import COLUMNS, Ints, Mask, Sessions, group
from recexp.datasets.spill import Spill
from recexp.errors import DataError
from recexp.storage.download import Progress

_Result = TypeVar("_Result")


class SessionBuild:
    """One build; ``run`` goes through the passes in turn.

    Every pass reads a part, works on it and counts; what has to be known of all parts (support, the last time, the
    items of training) is small. Two parts are in memory at a time for two workers.
    """

    def __init__(self, spilled: Spilled, recipe: Recipe, folder: Path, progress: Progress | None = None) -> None:
        self._spilled, self._recipe, self._folder, self._progress = spilled, recipe, folder, progress
        self._sessions = Spill(folder / "grouped", COLUMNS)
        self._kept = Spill(folder / "kept", COLUMNS)
        self._support = np.zeros(len(spilled.items), np.int64)
        self._trained = np.zeros(len(spilled.items), np.bool_)
        self._tested = np.zeros(len(spilled.items), np.bool_)
        self._cut: Cut | None = None
        self._test_from = self._valid_from = 0
        self.left_out: Counter[str] = Counter()

    def run(self) -> Ordered:
        """All passes; the result is on disk, in parts of successive sessions.

        Raises:
            DataError: nothing is left to train on or to test with.
            OSError: the disk refuses.
        """
        self._group()
        self._filter()
        if self._recipe.share > 1:
            self._find_cut()
        return self._order(self._learn())

    def _pass(self, what: str, work: Callable[[int], _Result]) -> Iterator[_Result]:
        parts = len(self._spilled.stated)
        for done, result in enumerate(in_order(work, range(parts)), start=1):
            if self._progress is not None:
                self._progress(what, done, parts)
            yield result

    def _group(self) -> None:
        """Events to sessions; short ones go; what is left supports the items."""
        least = self._recipe.min_session_length

        def work(part: int) -> tuple[Ints, int, int]:
            sessions = group(**self._spilled.events.take(part))
            kept = sessions.keep(sessions.length >= least)
            self._sessions.append(part, kept.columns())
            support = np.bincount(kept.item, minlength=len(self._support))
            return support, len(sessions) - len(kept), len(sessions.item) - len(kept.item)

        for support, short, events in self._pass("group sessions", work):
            self._support += support
            self._note("short_sessions", short, events)

    def _filter(self) -> None:
        """Rare items go, then the sessions that are short without them; the last of all times settles the test."""
        enough = self._support >= self._recipe.min_item_support

        def work(part: int) -> tuple[int, int, int, int]:
            sessions = Sessions(**self._sessions.take(part))
            common = sessions.keep_events(enough[sessions.item])
            kept = common.keep(common.length >= self._recipe.min_session_length)
            self._kept.append(part, kept.columns())
            latest = int(kept.time.max(initial=-1))
            rare = len(sessions.item) - len(common.item)
            return latest, rare, len(common) - len(kept), len(common.item) - len(kept.item)

        latest = -1
        for last, rare, short, events in self._pass("filter sessions", work):
            latest = max(latest, last)
            self._note("rare_items", 0, rare)
            self._note("sessions_short_without_rare_items", short, events)
        self.left_out["rare_items"] = int((~enough & (self._support > 0)).sum())
        if latest < 0:
            raise DataError(
                f"{self._spilled.source}: no session is left. dataset.min_session_length="
                f"{self._recipe.min_session_length} and dataset.min_item_support={self._recipe.min_item_support} "
                f"leave out all; lower them if the file is only a sample."
            )
        self._test_from = latest - (self._recipe.holdout or 0)

    def _read(self, part: int) -> tuple[Sessions, Mask]:
        """The sessions of a part and which are test, before the cut."""
        sessions = Sessions(**self._kept.read(part))
        stated = self._spilled.stated[part]
        if stated is None:
            return sessions, sessions.last() >= self._test_from
        return sessions, np.full(len(sessions), stated == TEST)

    def _split(self, part: int) -> tuple[Sessions, Sessions]:
        """Training (after the cut) and test sessions of a part."""
        sessions, is_test = self._read(part)
        train = sessions.keep(~is_test)
        return (train if self._cut is None else self._cut.apply(train)), sessions.keep(is_test)

    def _find_cut(self) -> None:
        def table(part: int) -> tuple[Ints, Ints, Ints]:
            sessions, is_test = self._read(part)
            return sessions.last()[~is_test], sessions.label[~is_test], sessions.length[~is_test] - 1

        def tables() -> Iterator[tuple[Ints, Ints, Ints]]:
            return self._pass("find the most recent sessions", table)

        pairs, count = 0, 0
        for _, label, own in tables():
            pairs, count = pairs + int(own.sum()), count + len(label)
        needed = pairs // self._recipe.share
        if not needed:
            raise DataError(
                f"{self._spilled.source}: there are {pairs:,} training pairs, and of these the last "
                f"1/{self._recipe.share} is wanted; at least {self._recipe.share} are needed. Use a larger file."
            )
        self._cut = cut_before(tables, needed)
        self._note("older_train_sessions", count, pairs + count)  # those that are kept are taken off by _learn

    def _learn(self) -> Boundaries:
        """The items and the last time of training, and where parts of successive sessions begin."""

        def work(part: int) -> _Learned:
            train, test = self._split(part)
            return _Learned.of(train, test, len(self._trained))

        counts = {TRAIN: 0, TEST: 0}
        latest, samples = -1, []
        for found in self._pass("split sessions", work):
            self._trained[found.trained] = True
            self._tested[found.tested] = True
            latest = max(latest, found.latest)
            samples.append(found.sample)
            counts[TRAIN] += found.sessions
            counts[TEST] += found.test_sessions
            if self._cut is not None:
                self._note("older_train_sessions", -found.sessions, -found.events)
        self._refuse_nothing(counts[TRAIN], "training session", "the last")
        if self._recipe.holdout is None:
            self._valid_from = counts[TRAIN] - min(counts[TEST], counts[TRAIN] // 2) + 1
        else:
            self._valid_from = latest - self._recipe.holdout
        return Boundaries.of(samples, len(samples))

    def _order(self, boundaries: Boundaries) -> Ordered:
        """What test has beyond the items of training goes; the rest is spread by the time of the first event."""

        def work(part: int) -> tuple[Sessions, npt.NDArray[np.uint8], npt.NDArray[np.uint16], int, int, int]:
            train, test = self._split(part)
            known = test.keep_events(self._trained[test.item])
            kept = known.keep(known.length >= self._recipe.min_test_length)
            both = train.joined(kept)
            word = np.full(len(both), TEST, np.uint8)
            word[: len(train)] = np.where(self._is_late(train), VALIDATION, TRAIN)
            unseen = len(test.item) - len(known.item)
            goal = boundaries.part(both.first(), both.label)
            order = np.argsort(goal, kind="stable")
            short = len(test) - len(kept)
            return both.take(order), word[order], goal[order], unseen, short, len(known.item) - len(kept.item)

        ordered = Ordered(self._folder, len(self._spilled.stated), self._spilled.items, self._trained)
        tested = 0
        for sessions, word, goal, unseen, short, events in self._pass("order sessions", work):
            ordered.add(sessions, word, goal)
            tested += int((word == TEST).sum())
            self._note("test_unseen_items", 0, unseen)
            self._note("short_test_sessions", short, events)
        self.left_out["test_unseen_items"] = int((self._tested & ~self._trained).sum())
        self._refuse_nothing(tested, "test session", "only the last")
        return ordered

    def _is_late(self, train: Sessions) -> Mask:
        """Which training sessions are validation."""
        late: Mask = (train.label if self._recipe.holdout is None else train.last()) >= self._valid_from
        return late

    def _refuse_nothing(self, count: int, what: str, end: str) -> None:
        if not count:
            raise DataError(
                f"{self._spilled.source}: no {what} is left. Sessions that end within {end} day (dataset.test_days) "
                f"are test, the others are for training, and test keeps only what training has; left out was "
                f"{dict(self.left_out)}. Use a file of more days, or other dataset.test_days."
            )

    def _note(self, reason: str, count: int, events: int) -> None:
        self.left_out[reason] += count
        self.left_out[f"{reason}_events"] += events


@dataclass(frozen=True)
class _Learned:
    """What a part tells about all."""

    sessions: int
    events: int
    test_sessions: int
    latest: int
    trained: Mask
    tested: Mask
    sample: Sample

    @classmethod
    def of(cls, train: Sessions, test: Sessions, items: int) -> _Learned:
        both = train.joined(test)
        return cls(
            sessions=len(train),
            events=len(train.item),
            test_sessions=len(test),
            latest=int(train.time.max(initial=-1)),
            trained=np.bincount(train.item, minlength=items) > 0,
            tested=np.bincount(test.item, minlength=items) > 0,
            sample=Sample.of(both.first(), both.label),
        )
