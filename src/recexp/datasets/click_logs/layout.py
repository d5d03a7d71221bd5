"""How a line of a click log is laid out, and the rows of a chunk as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

MISSING = np.iinfo(np.int32).min
"""Stands for a number that is not there; no legal number has this value."""

Kind = Literal["label", "number", "hex", "ignored"]


@dataclass(frozen=True)
class Layout:
    """Columns of a line.

    Attributes:
        separator: Between columns, one character.
        names: Of the columns, in order.
        kinds: ``label`` is 0 or 1; ``number`` a whole number of 32 bits or nothing; ``hex`` at most 8 hexadecimal
            digits or nothing; ``ignored`` anything.
        header: The first line of a file states the names.
    """

    separator: str
    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    header: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.kinds)

    def places(self, kind: Kind) -> list[int]:
        """Positions of the columns of a kind, in order."""
        return [place for place, each in enumerate(self.kinds) if each == kind]

    def named(self, kind: Kind) -> tuple[str, ...]:
        """Names of the columns of a kind, in order."""
        return tuple(self.names[place] for place in self.places(kind))


@dataclass(frozen=True)
class Rows:
    """Well-formed rows in the order of the file.

    Shapes: N rows, D columns of numbers, C of hexadecimal ids. ``label`` uint8[N]; ``numbers`` int32[D, N], MISSING
    where there is none; ``ids`` uint32[C, N]; ``absent`` bool[C, N]: there is no id (then ``ids`` is 0).
    """

    label: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.int32]
    ids: npt.NDArray[np.uint32]
    absent: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)


def join(parts: Sequence[Rows], layout: Layout) -> Rows:
    """Rows one after another."""
    numbers, ids = len(layout.places("number")), len(layout.places("hex"))
    return Rows(
        label=np.concatenate([np.empty(0, np.uint8), *(part.label for part in parts)]),
        numbers=np.concatenate([np.empty((numbers, 0), np.int32), *(part.numbers for part in parts)], axis=1),
        ids=np.concatenate([np.empty((ids, 0), np.uint32), *(part.ids for part in parts)], axis=1),
        absent=np.concatenate([np.empty((ids, 0), np.bool_), *(part.absent for part in parts)], axis=1),
    )
