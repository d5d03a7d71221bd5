"""Events: who did what when, as memory-mapped arrays sorted by user and time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Parts of a dataset that states a split, as they stand in ``Events.part``."""


@dataclass(frozen=True)
class DataMeta:
    """What the data is and where it came from.

    ``fingerprint`` is the sha256 of the arrays' content and of the recipe that made them; two runs with one
    fingerprint saw the same data. ``verified`` is False where a copy with an unknown checksum was read on request,
    None where no checksum is published. ``malformed`` counts the rows left out, by kind; ``left_out`` counts the
    sessions, items and events that the dataset's recipe leaves out, by reason (keys that end in ``_events`` count
    events). ``notes`` counts what is there and worth knowing, such as users who never occur in training.
    """

    name: str
    fingerprint: str
    licence: str
    origin: str
    synthetic: bool
    rows_read: int
    malformed: dict[str, int] = field(default_factory=dict)
    verified: bool | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Events:
    """All events of a dataset, sorted by (user, time, order in the file).

    Shapes: N events. ``user`` int32[N] in 1..num_users, ``item`` int32[N] in 1..num_items (0 is padding),
    ``time`` int64[N] in the unit of the source (seconds for MovieLens, milliseconds for sessions, microseconds for
    timestamp columns, the row's number where there is no time), ``rating`` float32[N], ``offsets``
    int64[num_users + 2]: the events of user u are ``offsets[u]:offsets[u + 1]``. ``num_users`` and ``num_items`` are
    the largest ids, so a table with a padding row has one row more. ``user_labels[u - 1]`` and ``item_labels[i - 1]``
    are the original ids; None where ids were kept.

    ``part`` uint8[num_users + 1], indexed by the user's id (entry 0 is unused and 0), says where the dataset states a
    split: TRAIN, VALIDATION or TEST. The full training set is TRAIN and VALIDATION together; None: no split is stated.
    In a dataset of sessions a user is a session, numbered in the order of its first event's time (then of its id).
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    time: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    num_users: int
    num_items: int
    meta: DataMeta
    user_labels: Array | None = None
    item_labels: Array | None = None
    part: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        """Number of events."""
        return len(self.user)

    def user_label(self, user: int) -> int | str:
        """The source's own id of a user."""
        return _label(self.user_labels, user, self.num_users, "user")

    def item_label(self, item: int) -> int | str:
        """The source's own id of an item."""
        return _label(self.item_labels, item, self.num_items, "item")


def _label(labels: Array | None, index: int, largest: int, what: str) -> int | str:
    if not 1 <= index <= largest:
        raise ValueError(f"{what} {index} does not exist: ids are 1..{largest}")
    if labels is None:
        return index
    label: int | str = labels[index - 1].item()
    return label
