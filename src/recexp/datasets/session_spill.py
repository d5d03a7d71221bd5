"""Clicks of any amount, spread over parts on disk so that each session is whole in one part that fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recexp.datasets.sessions import Codes, Ints
from recexp.datasets.spill import Spill
from recexp.errors import DataError

_PART_BYTES = 16 << 20
"""Of text, about 400,000 clicks: so small that reading the text stays what needs most memory."""
_MOST_ITEMS = np.iinfo(np.int32).max - 1


@dataclass(frozen=True)
class Clicks:
    """Some rows of a source in its order: ``session``, ``item`` (the source's ids) and ``time``, each int64[N]."""

    session: Ints
    item: Ints
    time: Ints


@dataclass(frozen=True)
class Source:
    """One file of clicks.

    Attributes:
        part: TRAIN or TEST where the file says so; None where a recipe splits.
        bytes: Size as text, which settles the number of parts.
        pieces: Reads it from the beginning.
    """

    part: int | None
    bytes: int
    pieces: Callable[[], Iterator[Clicks]]


@dataclass(frozen=True)
class Spilled:
    """All clicks on disk.

    Attributes:
        events: Columns session, item (positions in ``items``) and time; each part in the order of its source.
        stated: What each part's source said: TRAIN, TEST or None.
        items: int64[V]: the source's ids.
        source: For messages.
    """

    events: Spill
    stated: list[int | None]
    items: Ints
    source: str


def spill(sources: Sequence[Source], folder: Path, source: str, part_bytes: int = _PART_BYTES) -> Spilled:
    """Read the sources one after the other, each into parts of its own.

    Memory holds one piece, and the ids of the items.

    Raises:
        DataError: more items than int32 holds, or whatever the sources raise.
        OSError: the disk refuses.
    """
    events = Spill(folder, {"session": np.int64, "item": np.int32, "time": np.int64})
    items = _Items()
    stated: list[int | None] = []
    for each in sources:
        parts = max(1, -(-each.bytes // part_bytes))
        for clicks in each.pieces():
            _spread(clicks, events, items, len(stated), parts)
            if len(items) > _MOST_ITEMS:
                raise DataError(f"{source}: more than {_MOST_ITEMS:,} items; they cannot be numbered.")
        stated += [each.part] * parts
    pa.default_memory_pool().release_unused()  # the passes that follow do without Arrow
    return Spilled(events, stated, items.labels(), source)


class _Items:
    """Positions of ids in the order in which they are met; whole numbers only, which numpy can search for."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.int64)
        self._position = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._sorted)

    def encode(self, values: Ints) -> Codes:
        """int32[N]: positions of ``values`` int64[N]; new ones are added."""
        encoded = pa.array(values).dictionary_encode()
        met = encoded.dictionary.to_numpy()
        new = np.setdiff1d(met, self._sorted, assume_unique=True)
        if len(new):
            joined = np.concatenate((self._sorted, new))
            position = np.concatenate((self._position, np.arange(len(self), len(joined), dtype=np.int32)))
            order = np.argsort(joined)
            self._sorted, self._position = joined[order], position[order]
        codes: Codes = self._position[np.searchsorted(self._sorted, met)][encoded.indices.to_numpy()]
        return codes

    def labels(self) -> Ints:
        """The ids by position."""
        labels = np.empty_like(self._sorted)
        labels[self._position] = self._sorted
        return labels


def _spread(clicks: Clicks, events: Spill, items: _Items, first: int, parts: int) -> None:
    code = items.encode(clicks.item)
    part = part_of(clicks.session, parts)
    order = np.argsort(part, kind="stable")  # of 16 bits: numpy counts instead of comparing
    session, item, time = clicks.session[order], code[order], clicks.time[order]
    ends = np.cumsum(np.bincount(part, minlength=parts))
    for number, end in enumerate(ends.tolist()):
        rows = slice(int(ends[number - 1]) if number else 0, end)
        if rows.start < end:
            events.append(first + number, {"session": session[rows], "item": item[rows], "time": time[rows]})


def part_of(session: Ints, parts: int) -> npt.NDArray[np.uint16]:
    """uint16[N]: a hash, so that parts are of one size whatever the ids and their order are."""
    mixed = session.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(32)) % np.uint64(parts)).astype(np.uint16)
