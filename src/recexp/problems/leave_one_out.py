"""Leave-one-out split: of each user's events by time the last is for test, the one before for validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recexp.problems.training_part import TrainingPart

Positions = NDArray[np.int64]

#: Fewer events than this, and a user's events are all for training: nothing would be left to learn from.
MIN_EVENTS = 3


@dataclass(frozen=True)
class LeaveOneOut:
    """Positions in the event arrays (sorted by user, then time). A user without both targets is in neither.

    Attributes:
        users: Ids of the users that are evaluated, int64 [E].
        train: Positions of the training targets, each with at least one event of its user before it, int64 [R].
        validation: Position of each evaluated user's validation target, int64 [E].
        test: Position of each evaluated user's test target, int64 [E].
        part: Each user's training events.
    """

    users: Positions
    train: Positions
    validation: Positions
    test: Positions
    part: TrainingPart

    @property
    def train_end(self) -> Positions:
        """One past each user's last training event, int64 [num_users + 1], indexed by user id."""
        return self.part.end


def leave_one_out(offsets: NDArray[np.int64]) -> LeaveOneOut:
    """Split events by their users' offsets.

    Args:
        offsets: ``offsets[u]:offsets[u + 1]`` are the events of user u by time, int64 [num_users + 2].
    """
    start, end = np.asarray(offsets[:-1]), np.asarray(offsets[1:])
    count = end - start
    evaluated = count >= MIN_EVENTS
    train_end = np.where(evaluated, end - 2, end)
    part = TrainingPart(start.astype(np.int64), train_end.astype(np.int64))
    users = np.flatnonzero(evaluated)
    return LeaveOneOut(
        users=users,
        train=part.targets(int(offsets[-1])),
        validation=end[users] - 2,
        test=end[users] - 1,
        part=part,
    )
