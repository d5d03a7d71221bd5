"""Values numbered in the order of their first appearance, some at a time, in memory that grows only with the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Numbering:
    """Numbers 0, 1, ... for whole numbers.

    The table is pandas' own, behind ``pandas.factorize``: that function sees all values at once and so cannot bound
    the memory, and tables that can be had otherwise take several times as long.
    """

    def __init__(self, *, is_wide: bool) -> None:
        """Nothing is numbered yet.

        Args:
            is_wide: Values are int64; else uint32, which takes half the memory and time.
        """
        from pandas._libs.hashtable import Int64Factorizer, UInt32Factorizer  # type: ignore[import-not-found]  # pandas takes time to import

        self._table: Any = (Int64Factorizer if is_wide else UInt32Factorizer)(1 << 10)

    def __len__(self) -> int:
        """Different values so far."""
        return int(self._table.count)

    def number(self, values: npt.NDArray[np.int64] | npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
        """The number of each value; new ones are added.

        Raises:
            OverflowError: there are more values than int32 holds.
        """
        numbers: npt.NDArray[np.int64] = self._table.factorize(values)
        if len(self) > np.iinfo(np.int32).max:
            raise OverflowError(f"{len(self):,} different values cannot be numbered with 32 bits")
        return numbers.astype(np.int32)
