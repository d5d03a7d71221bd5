"""Which events are for training: of each user the first so many, as every split says it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The arrays of a large dataset are mapped from the disk: copies of all of them would not be.
_EVENTS_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class TrainingPart:
    """Training events of each user: from the user's first event up to ``end``.

    Attributes:
        begin: First event of each user id, int64 [num_users + 1].
        end: One past the last training event, int64 [num_users + 1]; equal to ``begin`` for a user without any.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]

    def targets(self, events: int) -> NDArray[np.int64]:
        """Positions of the events that have a training event of the same user before them, int64 [R].

        Args:
            events: Number of events N.
        """
        change = np.zeros(events + 1, dtype=np.int8)
        # +1 where a user's targets begin, -1 behind the last: the running sum marks them.
        several = self.end - self.begin > 1
        np.add.at(change, self.begin[several] + 1, 1)
        np.add.at(change, self.end[several], -1)
        return np.flatnonzero(np.cumsum(change, dtype=np.int8)[:-1])

    def mask(self, user: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which events are for training, bool [N].

        Args:
            user: Of each event, int32 [N], sorted.
        """
        trained: NDArray[np.bool_] = np.arange(len(user)) < self.end[np.asarray(user)]
        return trained

    def support(self, item: NDArray[np.int32], user: NDArray[np.int32], num_items: int) -> NDArray[np.int64]:
        """Training events of each item id, int64 [num_items + 1]."""
        counts = np.zeros(num_items + 1, dtype=np.int64)
        for start in range(0, len(item), _EVENTS_AT_A_TIME):
            part = slice(start, start + _EVENTS_AT_A_TIME)
            owner, met = np.asarray(user[part]), np.asarray(item[part])
            trained = np.arange(start, start + len(met)) < self.end[owner]
            counts += np.bincount(met[trained], minlength=num_items + 1)
        return counts

    def sessions(self, time: NDArray[np.int64], labels: NDArray[np.generic] | None, order: str) -> NDArray[np.int64]:
        """Users with a training event, as sessions, int64 [n].

        Args:
            time: Of each event, int64 [N].
            labels: The source's own id of each user, [num_users]; None where ids were kept.
            order: By the ``time`` of their first event (ties: by id), or by the source's own ``id``.
        """
        users = np.flatnonzero(self.end > self.begin)
        if order == "time":
            return users[np.argsort(np.asarray(time)[self.begin[users]], kind="stable")]
        return users if labels is None else users[np.argsort(np.asarray(labels)[users - 1], kind="stable")]
