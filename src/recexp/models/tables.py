"""Rows of an embedding table, with a gradient that is written where the last one was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from recexp.models import kernels


@dataclass(slots=True)
class RowGradient:
    """Gradient of a table that is zero outside of some rows; ``table.row_gradient``, for optimisers that take it.

    Attributes:
        rows: int64 [U].
        values: float32 [U, D].
        distinct: No row is there twice; otherwise the gradient of a row is the sum of its values.
    """

    rows: Tensor
    values: Tensor
    distinct: bool = True

    def leave_at(self, table: Tensor | None) -> None:
        """Put it where the optimiser finds it."""
        table.row_gradient = self  # type: ignore[union-attr]

    def add_to(self, table: Tensor) -> None:
        """Put it beside what an earlier batch of the same update left there."""
        earlier: RowGradient | None = getattr(table, "row_gradient", None)
        if earlier is None:
            self.leave_at(table)
            return
        rows, values = torch.cat((earlier.rows, self.rows)), torch.cat((earlier.values, self.values))
        RowGradient(rows, values, distinct=False).leave_at(table)

    def summed(self) -> RowGradient:
        """Each row once, ascending, with the sum of its values in the order in which they are here."""
        rows, place = self.rows.unique(return_inverse=True)
        return RowGradient(
            rows, self.values.new_zeros(len(rows), self.values.shape[1]).index_add_(0, place, self.values)
        )


class _Rows(Function):
    """The gather; its backward adds to ``table.grad`` itself, so that no table-sized tensor is allocated twice.

    Where the optimiser alone looks at the gradient (``table.rows_only``), there is none of the table's size at all.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, padded: bool) -> Tensor:
        ctx.table, ctx.padded = table, padded
        ctx.save_for_backward(ids)
        return table.index_select(0, ids.reshape(-1)).view(*ids.shape, table.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (ids,), table = ctx.saved_tensors, ctx.table
        rows, values = ids.reshape(-1), gradients[0].reshape(-1, table.shape[1])
        if getattr(table, "rows_only", False):
            if ctx.padded:
                values = values.masked_fill((rows == 0)[:, None], 0)
            RowGradient(rows.to(torch.int64), values, distinct=False).add_to(table)
            return None, None, None
        if table.grad is None:
            table.grad = torch.zeros_like(table)
        table.grad.index_add_(0, rows, values)
        if ctx.padded:
            table.grad[0].zero_()
        return None, None, None


def note_rows(table: Tensor, ids: Tensor) -> None:
    """Tell an optimiser that asked for it (``table.looked_up`` is a list) which rows an update looks up."""
    noted: list[Tensor] | None = getattr(table, "looked_up", None)
    if noted is not None and torch.is_grad_enabled():
        noted.append(ids.reshape(-1).to(torch.int64))


def table_rows(table: Tensor, ids: Tensor, *, padded: bool) -> Tensor:
    """Rows of a table, ``[*ids.shape, D]``; with ``padded``, row 0 gets no gradient.

    On a CPU the usual backward pass spends more time in fresh pages for a gradient of the table's size than
    in arithmetic. Other devices sum rows in parallel, where only their own operator is deterministic; and
    DistributedDataParallel has to see the gradient pass through autograd.
    """
    note_rows(table, ids)
    in_place = kernels.hand_written(table) and table.is_leaf and torch.is_grad_enabled() and table.requires_grad
    if not in_place or distributed.is_initialized():
        return functional.embedding(ids, table, padding_idx=0 if padded else None)
    rows: Tensor = _Rows.apply(table, ids, padded)  # type: ignore[no-untyped-call]
    return rows
