"""Rows of fields and of dense numbers, each times its value: what factorisation machines and linear models sum over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recexp.errors import ConfigError
from recexp.models.field_tables import FieldTables
from recexp.models.fm_terms import fm_terms, pair_products

if TYPE_CHECKING:
    from recexp.problems.click import ClickBatch, ClickSizes

#: Which rows a penalty is on: those of the whole table, or those that the batch looked up.
L2_SCOPES = ("full", "batch")


class ValuedFields(nn.Module):
    """One row for each dense number, times the number, and one for each field."""

    def __init__(self, sizes: ClickSizes, width: int, *, with_dense: bool = True) -> None:
        """Allocate.

        Args:
            sizes: Of the data.
            width: Of a row.
            with_dense: Whether dense numbers have rows.
        """
        super().__init__()
        self.count = len(sizes.fields) + sizes.num_dense * with_dense
        self.tables = FieldTables(sizes.fields, width)
        has_dense = with_dense and sizes.num_dense > 0
        self.dense = nn.Parameter(torch.empty(sizes.num_dense, width)) if has_dense else None

    def initialise(self, std: float) -> None:
        """Draw N(0, std), the dense numbers' rows first."""
        if self.dense is not None:
            nn.init.normal_(self.dense, std=std)
        self.tables.initialise(std=std)

    def forward(self, batch: ClickBatch) -> Tensor:
        """Dense numbers, then fields, [B, D + F, width]."""
        rows: Tensor = self.tables(batch.ids)
        if self.dense is None:
            return rows
        return torch.cat((batch.dense[..., None] * self.dense, rows), dim=1)

    def penalised(self, l2: float, scope: str) -> dict[str, Any]:
        """The group of these parameters with the penalty l2 / 2 * sum(w^2).

        Args:
            l2: Factor.
            scope: A word of ``L2_SCOPES``.
        """
        return penalised(list(self.parameters()), l2, scope)


class FirstAndSecondOrder(nn.Module):
    """A weight and a vector for everything that has a row: in one table, so that a batch is one gather of both.

    Where their penalties differ they are two tables, because a parameter has one penalty.
    """

    def __init__(
        self,
        sizes: ClickSizes,
        dim: int,
        *,
        l2_linear: float,
        l2_embedding: float,
        l2_scope: str,
        with_dense: bool = True,
    ) -> None:
        """Allocate.

        Args:
            sizes: Of the data.
            dim: Width of a vector.
            l2_linear: Penalty l2_linear / 2 * sum(w^2) on the weights.
            l2_embedding: The same on the vectors.
            l2_scope: A word of ``L2_SCOPES``.
            with_dense: Whether dense numbers have weights and vectors, too.

        Raises:
            ConfigError: a scope of no penalty.
        """
        super().__init__()
        if l2_scope == "batch" and not (l2_linear or l2_embedding):
            raise ConfigError([
                "model.l2_scope=batch has no effect without a penalty: set model.l2_linear or model.l2_embedding, or "
                "leave it out."
            ])  # fmt: skip
        self.l2_linear, self.l2_embedding, self.l2_scope = l2_linear, l2_embedding, l2_scope
        joint = l2_linear == l2_embedding
        self.linear = None if joint else ValuedFields(sizes, 1, with_dense=with_dense)
        self.values = ValuedFields(sizes, dim + joint, with_dense=with_dense)
        self.count = self.values.count

    def initialise(self, std: float) -> None:
        """Draw N(0, std)."""
        for fields in (self.linear, self.values):
            if fields is not None:
                fields.initialise(std)

    def forward(self, batch: ClickBatch) -> tuple[Tensor, Tensor]:
        """First-order terms [B, D + F] and vectors times values [B, D + F, dim]."""
        rows = self.values(batch)
        if self.linear is None:
            return rows[..., 0], rows[..., 1:]
        return self.linear(batch).squeeze(2), rows

    def terms(self, batch: ClickBatch) -> tuple[Tensor, Tensor]:
        """First order plus products of all pairs [B], and vectors times values [B, D + F, dim]."""
        if self.linear is None:
            return fm_terms(batch.dense, self.values.dense, self.values.tables(batch.ids))
        first, vectors = self(batch)
        return first.sum(1) + pair_products(vectors).sum(1), vectors

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Each table with its penalty."""
        groups = [self.values.penalised(self.l2_embedding, self.l2_scope)]
        if self.linear is not None:
            groups.append(self.linear.penalised(self.l2_linear, self.l2_scope))
        return groups


def penalised(parameters: list[nn.Parameter], l2: float, scope: str | None = None) -> dict[str, Any]:
    """A group of parameters with the penalty l2 / 2 * sum(w^2), the convention of weight decay.

    Args:
        parameters: Of the group.
        l2: Factor.
        scope: Tables: a word of ``L2_SCOPES``; None for what is no table.
    """
    group: dict[str, Any] = {"params": parameters, "l2": l2 / 2, "tables": scope is not None}
    if l2 and scope == "batch":
        group["l2_rows"] = "touched"
    return group
