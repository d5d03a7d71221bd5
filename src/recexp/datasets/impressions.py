"""Impressions: what was shown, to whom, and whether it was clicked, as fixed-width memory-mapped rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recexp.datasets.events import DataMeta

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Field:
    """A categorical field: ids 0..size-1, one of them in each of its slots.

    Attributes:
        name: Of the field, as the source or the dataset's documentation calls it.
        size: Number of ids, those for missing and for rare values included.
        slots: Columns of ``Impressions.ids``: 1, or the most ids that a row of a multi-valued field has.
    """

    name: str
    size: int
    slots: int = 1


@dataclass(frozen=True)
class Impressions:
    """All rows of a dataset, those of training first, then validation, then test; within a part in the source's order.

    Shapes: N rows. ``label`` uint8[N], 1 for a click. ``dense`` float32[N, D]: numbers, transformed as the recipe says.
    ``ids`` int32[N, S]: S is the sum of the fields' slots; field by field in the order of ``fields``, each counted from
    0; -1 fills the slots that a row of a multi-valued field does not use (then all slots of that row may be -1).
    ``bounds``: rows ``bounds[p]:bounds[p + 1]`` are part p of ``PARTS``.
    """

    label: npt.NDArray[np.uint8]
    dense: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int32]
    fields: tuple[Field, ...]
    dense_names: tuple[str, ...]
    bounds: tuple[int, int, int, int]
    split: str
    """How the parts were cut, in words; belongs to the protocol of every number."""
    meta: DataMeta

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)

    def part(self, name: str) -> slice:
        """Rows of a part, one of ``PARTS``."""
        at = PARTS.index(name)
        return slice(self.bounds[at], self.bounds[at + 1])
