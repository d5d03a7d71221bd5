"""Rules of optimisers as compiled loops that change parameter and state in one pass, where there are such loops."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recexp.models import native
from recexp.models.tables import RowGradient
from recexp.training.row_rules import AdagradMomentum, Rule


@dataclass(frozen=True)
class InPlace:
    """Adagrad with momentum."""

    library: ctypes.CDLL
    rule: AdagradMomentum

    def takes(self, parameter: Tensor, gradient: Tensor) -> bool:
        """Whether the loops can work on such tensors."""
        return all(
            tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()
            for tensor in (parameter, gradient)
        )

    def whole(self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float) -> None:
        """Update a whole parameter."""
        self.library.adagrad_momentum(
            parameter.numel(), lr, self.rule.momentum, self.rule.eps, gradient.data_ptr(), parameter.data_ptr(),
            state["sum"].data_ptr(), state["velocity"].data_ptr(),
        )  # fmt: skip

    def rows(self, table: Tensor, gradient: RowGradient, state: Mapping[str, Tensor], lr: float) -> None:
        """Update distinct rows of a table."""
        self.library.adagrad_momentum_rows(
            len(gradient.rows), table.shape[1], lr, self.rule.momentum, self.rule.eps, gradient.rows.data_ptr(),
            gradient.values.data_ptr(), table.data_ptr(), state["sum"].data_ptr(), state["velocity"].data_ptr(),
        )  # fmt: skip


def in_place(rule: Rule) -> InPlace | None:
    """The loops of a rule, None where there are none."""
    if not isinstance(rule, AdagradMomentum) or not rule.momentum:
        return None
    library = native.library()
    return None if library is None else InPlace(library, rule)
