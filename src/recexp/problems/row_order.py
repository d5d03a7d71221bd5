"""The order in which rows of a long table are trained on, found window by window so that rows stream from the disk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recexp.problems.negatives import stream_key
from recexp.problems.schedule import shuffled

#: Neighbours that stay in one window: long enough that a disk reads them in one piece.
BLOCK_ROWS = 4096
#: Name of the stream of orders within windows.
WINDOW_STREAM = 3

Rows = NDArray[np.int64]


@dataclass
class RowOrder:
    """A function of (seed, epoch): every row once.

    ``window``: blocks of neighbours in random order, and the rows in random order within windows of several blocks.
    ``total``: all rows in random order. ``none``: as they are.

    Attributes:
        rows: Number of rows.
        kind: One of these words.
        window: Rows of a window; where there are no more, ``window`` shuffles completely.
        seed: The run's.
    """

    rows: int
    kind: str
    window: int
    seed: int
    _kept: tuple[tuple[int, int], Rows] | None = field(default=None, repr=False)

    def slice(self, epoch: int, first: int, last: int) -> Rows:
        """The rows at the places ``first:last`` of an epoch, int64 [last - first]."""
        if self.kind == "none":
            return np.arange(first, last)
        if self.kind == "total":
            return self._keep(epoch, 0)[first:last]
        pieces = []
        for window in range(first // self._span, -(-last // self._span)):
            start = window * self._span
            pieces.append(self._keep(epoch, window)[max(first - start, 0) : last - start])
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    @property
    def _span(self) -> int:
        """Rows of a window, whole blocks."""
        return max(1, self.window // BLOCK_ROWS) * BLOCK_ROWS

    def _keep(self, epoch: int, window: int) -> Rows:
        """Rows of a window; the last one is kept, as the next batch asks for it again."""
        if self._kept is None or self._kept[0] != (epoch, window):
            found = shuffled(self.rows, self.seed, epoch) if self.kind == "total" else self._window(epoch, window)
            self._kept = ((epoch, window), found)
        return self._kept[1]

    def _window(self, epoch: int, window: int) -> Rows:
        whole = self.rows // BLOCK_ROWS
        blocks = shuffled(whole, self.seed, epoch)
        count = self._span // BLOCK_ROWS
        own = blocks[window * count : (window + 1) * count, None] * BLOCK_ROWS + np.arange(BLOCK_ROWS)
        rows = own.reshape(-1)
        if len(rows) < self._span:
            # The rest that makes no block is in the last window.
            rows = np.concatenate((rows, np.arange(whole * BLOCK_ROWS, self.rows)))
        key = stream_key(self.seed, WINDOW_STREAM, epoch, window) % 2**64
        return np.random.Generator(np.random.Philox(key=key)).permutation(rows)
