"""One embedding table for all fields: their rows stand one below the other, so that a batch is one gather."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recexp.datasets.impressions import Field
from recexp.models.tables import table_rows

#: How the rows of a multi-valued field become one.
POOLINGS = ("sum", "mean")


class FieldTables(nn.Module):
    """The rows of all fields and their pooling.

    Where a field has several slots, row 0 of the table is padding: slots that a row does not use look it up; it is
    zero and gets no gradient.
    """

    offset: Tensor

    def __init__(
        self, fields: Sequence[Field], width: int, pooling: str = "sum", *, weights: str | None = None
    ) -> None:
        """Allocate the table; who owns it initialises it.

        Args:
            fields: In the order of the slots of the ids.
            width: Of a row.
            pooling: A word of ``POOLINGS``.
            weights: A factor of its own for each id, 1 at first: ``learned``, ``fixed`` (as set from outside) or None.
        """
        super().__init__()
        self.fields, self.width, self.pooling = tuple(fields), width, pooling
        self.slots = [field.slots for field in self.fields]
        self.single = all(slots == 1 for slots in self.slots)
        bounds = list(itertools.accumulate((field.size for field in self.fields), initial=0 if self.single else 1))
        self.bounds = bounds
        self.table = nn.Parameter(torch.empty(bounds[-1], width))
        offsets = [start for start, slots in zip(bounds, self.slots, strict=False) for _ in range(slots)]
        self.register_buffer("offset", torch.tensor(offsets, dtype=torch.int64), persistent=False)
        self.weights: nn.Parameter | None = None
        if weights is not None:
            self.weights = nn.Parameter(torch.ones(bounds[-1], 1), requires_grad=weights == "learned")

    def rows_of(self, field: int) -> Tensor:
        """The table of one field, a view [size, width] without a gradient."""
        return self.table.detach()[self.bounds[field] : self.bounds[field + 1]]

    def initialise(self, *, std: float | None = None) -> None:
        """Draw field by field: N(0, std), or without one U(-b, b) with b = sqrt(1 / size of the field) (DLRM)."""
        for number, field in enumerate(self.fields):
            rows, bound = self.rows_of(number), (1 / field.size) ** 0.5
            nn.init.uniform_(rows, -bound, bound) if std is None else nn.init.normal_(rows, std=std)
        self.clear_padding()

    def clear_padding(self) -> None:
        """Make the row that unused slots look up zero."""
        if not self.single:
            self.table.detach()[0].zero_()

    def places(self, ids: Tensor) -> Tensor:
        """Rows of the table, int64 [B, S]; counted in whole numbers, whatever their size."""
        if self.single:
            return ids + self.offset
        return torch.where(ids < 0, 0, ids + self.offset)

    def forward(self, ids: Tensor) -> Tensor:
        """One vector for each field.

        Args:
            ids: Integers [B, S], counted from 0 in each field; -1 in unused slots.

        Returns:
            [B, F, width]; zero where a field has no id.
        """
        places = self.places(ids)
        rows = table_rows(self.table, places, padded=not self.single)
        if self.weights is not None:
            rows = rows * table_rows(self.weights, places, padded=not self.single)
        return rows if self.single else self._pool(rows, ids)

    def _pool(self, rows: Tensor, ids: Tensor) -> Tensor:
        pooled = torch.stack([own.sum(1) for own in rows.split(self.slots, dim=1)], dim=1)
        if self.pooling == "sum":
            return pooled
        counts = torch.stack([(own >= 0).sum(1) for own in ids.split(self.slots, dim=1)], dim=1)
        return pooled / counts.clamp(min=1)[..., None]
