"""From sessions in any order to the arrays of Events: numbered by time, part by part, appended to the final files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.array_file import ArrayFile
from recexp.datasets.parallel import in_order
from recexp.datasets.sessions import COLUMNS, Ints, Mask, Sessions
from recexp.datasets.spill import Spill
from recexp.errors import DataError

_SAMPLE = 1024
_MOST_SESSIONS = np.iinfo(np.int32).max - 1


@dataclass(frozen=True)
class Sample:
    """Some sessions of a part: times of the first event, labels, and how many sessions each stands for."""

    first: Ints
    label: Ints
    weight: npt.NDArray[np.float64]

    @classmethod
    def of(cls, first: Ints, label: Ints) -> Sample:
        """At most 1,024 of the sessions, evenly."""
        size = min(_SAMPLE, len(first))
        chosen = np.linspace(0, len(first), size, endpoint=False).astype(np.int64)
        return cls(first[chosen], label[chosen], np.full(size, len(first) / max(1, size)))


@dataclass(frozen=True)
class Boundaries:
    """First session of each part but the first, as (time of its first event, label); parts are about equally large."""

    first: Ints
    label: Ints

    @classmethod
    def of(cls, samples: Sequence[Sample], parts: int) -> Boundaries:
        """From samples of all sessions. Labels count, too, so that sessions of one moment spread over parts."""
        first, label = (np.concatenate([getattr(each, name) for each in samples]) for name in ("first", "label"))
        weight = np.concatenate([each.weight for each in samples])
        order = np.lexsort((label, first))
        reached = np.cumsum(weight[order])
        wanted = reached[-1] * np.arange(1, parts) / parts
        place = order[np.searchsorted(reached, wanted)]
        return cls(first[place], label[place])

    def part(self, first: Ints, label: Ints) -> npt.NDArray[np.uint16]:
        """uint16[S]: the part of each session. Sessions of a later part are later."""
        goal = np.zeros(len(first), np.uint16)
        for time, name in zip(self.first.tolist(), self.label.tolist(), strict=True):
            goal += (first > time) | ((first == time) & (label >= name))
        return goal


class Ordered:
    """Sessions on disk in parts of successive ones; ``write`` makes the arrays of them.

    Args:
        folder: Where the parts are kept, and where the arrays are written.
        parts: Number of parts.
        items: int64[V]: the source's ids of the items.
        trained: bool[V]: items of the catalogue, those with a training event.
    """

    def __init__(self, folder: Path, parts: int, items: Ints, trained: Mask) -> None:
        self._parts, self._items, self._trained = parts, items, trained
        self._kept = Spill(folder / "ordered", {**COLUMNS, "word": np.uint8})
        self.sessions = self.events = 0

    def add(self, sessions: Sessions, word: npt.NDArray[np.uint8], goal: npt.NDArray[np.uint16]) -> None:
        """Put sessions into their parts.

        Args:
            sessions: S sessions, sorted by ``goal``.
            word: uint8[S]: TRAIN, VALIDATION or TEST.
            goal: uint16[S]: the part of each.
        """
        ends = np.cumsum(np.bincount(goal, minlength=self._parts)).tolist()
        for part, end in enumerate(ends):
            rows = slice(ends[part - 1] if part else 0, end)
            if rows.start == end:
                continue
            events = slice(int(sessions.offsets[rows.start]), int(sessions.offsets[end]))
            own = Sessions(sessions.label[rows], sessions.length[rows], sessions.item[events], sessions.time[events])
            self._kept.append(part, {**own.columns(), "word": word[rows]})
        self.sessions += len(sessions)
        self.events += len(sessions.item)

    def write(self, folder: Path) -> tuple[dict[str, dict[str, Any]], int]:
        """Write the ``.npy`` files of all arrays into ``folder``; returns what they are, and the number of items.

        Raises:
            DataError: more sessions than int32 numbers.
            OSError: the disk refuses.
        """
        if self.sessions > _MOST_SESSIONS:
            raise DataError(f"{self.sessions:,} sessions; at most {_MOST_SESSIONS:,} can be numbered.")
        known = np.flatnonzero(self._trained)
        known = known[np.argsort(self._items[known])]
        number = np.zeros(len(self._items), np.int32)
        number[known] = np.arange(1, len(known) + 1)
        kinds = (
            ("user", np.int32, self.events), ("item", np.int32, self.events), ("time", np.int64, self.events),
            ("rating", np.float32, self.events), ("offsets", np.int64, self.sessions + 2),
            ("user_labels", np.int64, self.sessions), ("item_labels", np.int64, len(known)),
            ("part", np.uint8, self.sessions + 1),
        )  # fmt: skip
        with ExitStack() as opened:
            files = {
                name: opened.enter_context(ArrayFile(folder / f"{name}.npy", kind, length))
                for name, kind, length in kinds
            }
            files["item_labels"].append(self._items[known])
            files["offsets"].append(np.zeros(2, np.int64))
            files["part"].append(np.zeros(1, np.uint8))
            for arrays in self._numbered(number):
                for name, values in arrays.items():
                    files[name].append(values)
            return {name: file.close() for name, file in files.items()}, len(known)

    def _numbered(self, number: npt.NDArray[np.int32]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The arrays of each part; only the counts before it are added in turn."""

        def sort(part: int) -> tuple[Sessions, npt.NDArray[np.uint8]]:
            columns = self._kept.take(part)
            word = columns.pop("word")
            sessions = Sessions(**columns)
            order = np.lexsort((word, sessions.label, sessions.first()))
            return sessions.take(order), word[order]

        users = events = 0
        for sessions, word in in_order(sort, range(self._parts)):
            numbers = np.arange(users + 1, users + len(sessions) + 1, dtype=np.int32)
            yield {
                "user": np.repeat(numbers, sessions.length),
                "item": number[sessions.item],
                "time": sessions.time,
                "rating": np.ones(len(sessions.item), np.float32),
                "offsets": events + sessions.offsets[1:],
                "user_labels": sessions.label,
                "part": word,
            }
            users += len(sessions)
            events += len(sessions.item)
