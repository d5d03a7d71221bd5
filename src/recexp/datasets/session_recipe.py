"""The numbers of a recipe that makes a dataset of sessions out of clicks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What is left out, and what is test and validation.

    Attributes:
        min_item_support: Items with fewer events go; 0 where the files are prepared.
        min_session_length: Sessions with fewer events go, before and after the items; 1 where the files are prepared.
        min_test_length: Test sessions with fewer events after the items that training never has.
        holdout: In units of time: sessions whose last event is at most so long before the last of all are held out,
            first as test (where no file states it), then within training as validation. None: there are no times;
            as many of the last training sessions as there are test sessions, at most half, are validation.
        share: Of the training pairs only the last 1/share are kept; 1: all.
    """

    min_item_support: int = 5
    min_session_length: int = 2
    min_test_length: int = 2
    holdout: int | None = 86_400_000
    share: int = 1
