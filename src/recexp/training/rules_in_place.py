"""Rules of optimisers as compiled loops that change parameter and state in one pass, where there are such loops."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recexp.models import native
from recexp.models.tables import RowGradient
from recexp.training.row_rules import SGD, Adagrad, AdagradMomentum, LazyAdam, RMSProp, RowwiseAdagrad, Rule


@dataclass(frozen=True)
class InPlace:
    """The loops of one rule."""

    library: ctypes.CDLL
    rule: Rule

    def takes(self, parameter: Tensor, gradient: Tensor) -> bool:
        """Whether the loops can work on such tensors."""
        return all(
            tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()
            for tensor in (parameter, gradient)
        )

    def whole(self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int = 1) -> bool:
        """Update a whole parameter; False, and nothing is done, where there is no loop for that."""
        if isinstance(self.rule, RMSProp):
            size = tuple(parameter.shape) if "visited" in state else (1, parameter.numel())
            self._rmsprop(size, None, gradient, parameter, state, lr, step)
            return True
        if not isinstance(self.rule, AdagradMomentum):
            return False
        self.library.adagrad_momentum(
            parameter.numel(), lr, self.rule.momentum, self.rule.eps, gradient.data_ptr(), parameter.data_ptr(),
            state["sum"].data_ptr(), state["velocity"].data_ptr(),
        )  # fmt: skip
        return True

    def summed(self, gradient: RowGradient) -> RowGradient:
        """As :meth:`RowGradient.summed`, with the rows in the order of their first values."""
        count, width = gradient.values.shape
        rows, values = torch.empty_like(gradient.rows), torch.empty_like(gradient.values)
        slots = torch.empty(1 << max(1, (2 * count - 1).bit_length()), dtype=torch.int32)
        distinct = self.library.sum_rows(
            count, width, gradient.rows.data_ptr(), gradient.values.data_ptr(), len(slots), slots.data_ptr(),
            rows.data_ptr(), values.data_ptr(),
        )  # fmt: skip
        return RowGradient(rows[:distinct], values[:distinct])

    def rows(self, table: Tensor, gradient: RowGradient, state: Mapping[str, Tensor], lr: float, step: int = 1) -> None:
        """Update rows of a table: distinct ones, but for SGD, which adds.

        Args:
            table: float32 [rows, D].
            gradient: Of some rows.
            state: Whole tensors of the rule.
            lr: Learning rate.
            step: Updates so far, this one included.
        """
        rule, library = self.rule, self.library
        if isinstance(rule, RMSProp):
            size = len(gradient.rows), table.shape[1]
            self._rmsprop(size, gradient.rows, gradient.values, table, state, lr, step)
            return
        size = len(gradient.rows), table.shape[1]
        places = gradient.rows.data_ptr(), gradient.values.data_ptr(), table.data_ptr()
        kept = [state[name].data_ptr() for name in _KEPT[type(rule)]]
        if isinstance(rule, AdagradMomentum):
            library.adagrad_momentum_rows(*size, lr, rule.momentum, rule.eps, *places, *kept)
        elif isinstance(rule, Adagrad):
            library.adagrad_rows(*size, lr, rule.eps, *places, *kept)
        elif isinstance(rule, RowwiseAdagrad):
            library.rowwise_adagrad_rows(*size, lr, rule.eps, *places, *kept)
        elif isinstance(rule, LazyAdam):
            shares = 1 - rule.beta1, 1 - rule.beta2
            library.lazy_adam_rows(*size, rule.rate(lr, step), *shares, rule.eps, *places, *kept)
        else:
            library.sgd_rows(*size, lr, *places)

    def _rmsprop(
        self, size: tuple[int, ...], rows: Tensor | None, gradient: Tensor, value: Tensor, state: Mapping[str, Tensor],
        lr: float, step: int,
    ) -> None:  # fmt: skip
        """Update some rows, or all of them."""
        rule = self.rule
        assert isinstance(rule, RMSProp)
        visited = state.get("visited")
        self.library.rmsprop_rows(
            *size, lr, rule.alpha, rule.eps, rule.eps_in_root, step, rows.data_ptr() if rows is not None else None,
            gradient.data_ptr(), value.data_ptr(), state["square"].data_ptr(),
            visited.data_ptr() if visited is not None else None,
        )  # fmt: skip


#: What the loops take of a rule's state, in their order.
_KEPT: dict[type, tuple[str, ...]] = {
    AdagradMomentum: ("sum", "velocity"),
    Adagrad: ("sum",),
    RowwiseAdagrad: ("row_sum",),
    LazyAdam: ("exp_avg", "exp_avg_sq"),
    RMSProp: ("square", "visited"),
    SGD: (),
}


def in_place(rule: Rule) -> InPlace | None:
    """The loops of a rule, None where there are none."""
    if type(rule) not in _KEPT:
        return None
    if (isinstance(rule, AdagradMomentum) and not rule.momentum) or (isinstance(rule, RMSProp) and rule.momentum):
        return None
    library = native.library()
    return None if library is None else InPlace(library, rule)
