"""What a reader hands on: the rows of a source as columns, and a recipe to get them only when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import Array


@dataclass(frozen=True)
class Table:
    """Accepted rows in the order of the file.

    ``user`` and ``item`` int64[N]: ids as they are in the file where the labels are None, else positions in
    ``user_labels`` / ``item_labels`` (whole numbers or text, in any order). ``rating`` float64[N], ``time`` int64[N].
    """

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float64]
    time: npt.NDArray[np.int64]
    rows_read: int
    user_labels: Array | None = None
    item_labels: Array | None = None
    malformed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A source that was found and identified, but not yet parsed.

    Attributes:
        content: sha256 that stands for the source's content (of the rating file, or of a generator's options).
        options: What shapes the arrays besides the content; goes into the cache's key.
        load: Fetches and parses; returns the rows and where they came from, for people.
        verified: Whether the content is the published one; None where none is published.
        synthetic: Generated, not recorded.
    """

    content: str
    options: Mapping[str, Any]
    load: Callable[[], tuple[Table, str]]
    verified: bool | None = None
    synthetic: bool = False
