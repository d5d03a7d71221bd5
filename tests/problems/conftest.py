"""Feeds of windows for tests of splits and evaluations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from recexp.problems.placed_events import PlacedEvents
from recexp.problems.training_part import TrainingPart
from recexp.problems.window_feed import NegativeOptions, WindowFeed

PLAIN = NegativeOptions(count=1, distribution="uniform", alpha=1.0, exclude="train", catalogue="all", refresh="epoch")


@pytest.fixture(scope="session")
def windows() -> Callable[[int], Callable[[PlacedEvents, TrainingPart], WindowFeed]]:
    """Of a length of history, with batches of 8 and one negative."""

    def of(max_len: int) -> Callable[[PlacedEvents, TrainingPart], WindowFeed]:
        return lambda placed, part: WindowFeed(
            placed, part, plan={"batch_size": 8}, max_len=max_len, targets=1, negatives=PLAIN, seed=1
        )

    return of
