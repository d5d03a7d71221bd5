"""Embeddings that take less memory than one row an id: quotient-remainder tables and tables of mixed dimension.

Shi et al. 2019 (arXiv 1909.02107) and Ginart et al. 2019 (arXiv 1909.11810), as in facebookresearch/dlrm (tricks/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recexp.datasets.impressions import Field
from recexp.models.field_tables import FieldTables

#: How the vectors of quotient and remainder become one.
QR_OPERATIONS = ("mult", "add", "concat")


class _Part(nn.Module):
    """The slots of some of the fields."""

    columns: Tensor

    def __init__(self, fields: Sequence[Field], chosen: Sequence[int]) -> None:
        super().__init__()
        first = [0]
        for field in fields:
            first.append(first[-1] + field.slots)
        columns = [column for number in chosen for column in range(first[number], first[number + 1])]
        self.chosen = list(chosen)
        self.fields = [fields[number] for number in chosen]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def ids(self, ids: Tensor) -> Tensor:
        return ids.index_select(1, self.columns)


class _Parts(nn.Module):
    """Vectors of several parts, put back into the order of the fields."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for part in parts if part.fields)
        chosen = [number for part in parts for number in part.chosen]
        self.order = sorted(range(len(chosen)), key=chosen.__getitem__)

    def initialise(self) -> None:
        """Draw the parts one after the other."""
        for part in self.parts:
            part.initialise()  # type: ignore[operator]

    def forward(self, ids: Tensor) -> Tensor:
        """One vector for each field, [B, S] to [B, F, d]."""
        # Not by index_select: going back, it adds at places, which NPUs cannot do in bfloat16.
        vectors = torch.cat([part(ids) for part in self.parts], dim=1).unbind(1)
        return torch.stack([vectors[number] for number in self.order], dim=1)


class _Full(_Part):
    """Fields with a row for each id."""

    def __init__(self, fields: Sequence[Field], chosen: Sequence[int], dim: int, pooling: str) -> None:
        super().__init__(fields, chosen)
        self.tables = FieldTables(self.fields, dim, pooling=pooling)

    def initialise(self) -> None:
        self.tables.initialise()

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.tables(self.ids(ids))
        return rows


class _QuotientRemainder(_Part):
    """Fields in which an id is described by its quotient and its remainder."""

    def __init__(
        self, fields: Sequence[Field], chosen: Sequence[int], dim: int, pooling: str, collisions: int, operation: str
    ) -> None:
        super().__init__(fields, chosen)
        self.collisions, self.operation = collisions, operation
        width = dim // 2 if operation == "concat" else dim
        quotients = [Field(field.name, -(-field.size // collisions), field.slots) for field in self.fields]
        remainders = [Field(field.name, collisions, field.slots) for field in self.fields]
        self.quotient = FieldTables(quotients, width, pooling=pooling)
        self.remainder = FieldTables(remainders, width, pooling=pooling)

    def initialise(self) -> None:
        """Uniform from sqrt(1 / n) to 1, as the reference: it gives one bound, and so draws no negative numbers."""
        for tables in (self.quotient, self.remainder):
            for number, field in enumerate(self.fields):
                nn.init.uniform_(tables.rows_of(number), (1 / field.size) ** 0.5, 1.0)
            tables.clear_padding()

    def forward(self, ids: Tensor) -> Tensor:
        ids = self.ids(ids)
        # Floor division leaves the -1 of an unused slot as it is, the remainder does not.
        quotient = self.quotient(torch.div(ids, self.collisions, rounding_mode="floor"))
        remainder = self.remainder(torch.where(ids < 0, ids, ids % self.collisions))
        if self.operation == "concat":
            return torch.cat((quotient, remainder), dim=2)
        both: Tensor = quotient + remainder if self.operation == "add" else quotient * remainder
        return both


class _Projected(_Part):
    """Fields whose rows are narrower than the vectors that they become."""

    def __init__(self, fields: Sequence[Field], chosen: Sequence[int], dim: int, pooling: str, narrow: int) -> None:
        super().__init__(fields, chosen)
        self.tables = FieldTables(self.fields, narrow, pooling=pooling)
        self.projection = nn.Parameter(torch.empty(len(self.fields), narrow, dim))

    def initialise(self) -> None:
        self.tables.initialise()
        for matrix in self.projection.detach():
            nn.init.xavier_uniform_(matrix)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.einsum("bfn,fnd->bfd", self.tables(self.ids(ids)), self.projection)


class QuotientRemainderTables(_Parts):
    """Fields of more than ``threshold`` ids as two small tables, the others with a row for each id."""

    def __init__(
        self,
        fields: Sequence[Field],
        dim: int,
        pooling: str = "sum",
        *,
        threshold: int = 200,
        collisions: int = 4,
        operation: str = "mult",
    ) -> None:
        """Allocate.

        Args:
            fields: In the order of the slots of the ids.
            dim: Width of a field's vector; for ``concat`` an even number, of which each part has one half.
            pooling: As in :class:`FieldTables`; quotients and remainders are pooled before they are combined.
            threshold: Fields with more ids are compressed.
            collisions: Ids that share a row of quotients, and number of remainders.
            operation: A word of ``QR_OPERATIONS``.
        """
        large = [number for number, field in enumerate(fields) if field.size > threshold]
        small = [number for number in range(len(fields)) if number not in large]
        parts = (
            _Full(fields, small, dim, pooling),
            _QuotientRemainder(fields, large, dim, pooling, collisions, operation),
        )
        super().__init__(parts)


class MixedDimensionTables(_Parts):
    """The larger a field, the narrower its rows; a matrix for each field projects them to the common width."""

    def __init__(
        self,
        fields: Sequence[Field],
        dim: int,
        pooling: str = "sum",
        *,
        threshold: int = 200,
        temperature: float = 0.3,
        powers_of_two: bool = False,
    ) -> None:
        """Allocate.

        Args:
            fields: In the order of the slots of the ids.
            dim: Width of a field's vector.
            pooling: As in :class:`FieldTables`.
            threshold: Fields with no more ids keep the full width.
            temperature: Exponent of :func:`mixed_dimensions`.
            powers_of_two: Round the widths to powers of two.
        """
        widths = mixed_dimensions([field.size for field in fields], dim, temperature, powers_of_two=powers_of_two)
        widths = [dim if field.size <= threshold else width for field, width in zip(fields, widths, strict=True)]
        parts: list[_Part] = []
        for width in sorted(set(widths), reverse=True):
            chosen = [number for number, own in enumerate(widths) if own == width]
            full = width == dim
            parts.append(
                _Full(fields, chosen, dim, pooling) if full else _Projected(fields, chosen, dim, pooling, width)
            )
        super().__init__(parts)


def mixed_dimensions(sizes: Sequence[int], dim: int, temperature: float, *, powers_of_two: bool) -> list[int]:
    """Widths by the power rule (arXiv 1909.11810, section 4): d (n_min / n) ** temperature, rounded, at least 1.

    Args:
        sizes: Ids of each field.
        dim: Width of the smallest field, which none exceeds.
        temperature: 0 gives all fields the same width.
        powers_of_two: Round to the nearest power of two (on the scale of logarithms).
    """
    smallest = min(sizes, default=1)
    widths = [round(max(1.0, dim * (smallest / size) ** temperature)) for size in sizes]
    if powers_of_two:
        widths = [2 ** round(math.log2(width)) for width in widths]
    return [min(width, dim) for width in widths]
