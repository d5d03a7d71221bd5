"""An optimiser that, on embedding tables, visits only the rows that the update looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from recexp.models.tables import RowGradient
from recexp.training.row_rules import Rule
from recexp.training.rules_in_place import in_place


class RowOptimizer(Optimizer):
    """Applies a rule to whole parameters, and with ``touched`` to the looked-up rows of two-dimensional tables.

    The momentum of a row that is not looked up rests. Models gather through ``models.tables``, which notes the rows in
    ``table.looked_up``; a table of which nothing is ever noted is updated whole. Rows may be noted twice: both then
    compute the same from the same sum of gradients.
    """

    def __init__(self, groups: list[dict[str, Any]], rule: Rule, *, lr: float, touched: bool) -> None:
        """Prepare the state.

        Args:
            groups: ``params``, and ``weight_decay`` where a group has one.
            rule: What an update computes.
            lr: Learning rate.
            touched: Visit looked-up rows only.
        """
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.rule, self.touched = rule, touched
        self._in_place = in_place(rule)
        for parameter in self._parameters():
            self.state[parameter]["step"] = 0
            for name, fill in rule.start().items():
                self.state[parameter][name] = torch.full_like(parameter, fill)
            if touched and parameter.dim() == 2:
                parameter.looked_up = []  # type: ignore[attr-defined]

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for group in self.param_groups for parameter in group["params"])

    @property
    def takes_row_gradients(self) -> bool:
        """Whether a table's gradient may be given as rows (``table.row_gradient``)."""
        return self.touched

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update what has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss

    @torch.no_grad()
    def update(self) -> None:
        """What :meth:`step` does, without torch's hooks and profiling around it."""
        self._opt_called = True  # torch's schedules look whether they come after an update
        for group in self.param_groups:
            for parameter in group["params"]:
                given: RowGradient | None = getattr(parameter, "row_gradient", None)
                if given is not None:
                    self._update_given(parameter, given, group["lr"])
                elif parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        rows = looked_up(parameter)
        if rows is not None:
            self._update_rows(parameter, RowGradient(rows, parameter.grad.index_select(0, rows)), group["lr"])
            return
        gradient, decay = parameter.grad, group["weight_decay"]
        if self._in_place and not decay and self._in_place.takes(parameter, gradient):
            self._in_place.whole(parameter, gradient, self._kept(parameter), group["lr"])
            return
        if decay:
            gradient = gradient.add(parameter, alpha=decay)
        self.rule.apply(parameter, gradient, self._kept(parameter), group["lr"], self.state[parameter]["step"])

    def _update_given(self, parameter: nn.Parameter, gradient: RowGradient, lr: float) -> None:
        """Rows that are distinct, and may therefore be changed in place."""
        if self._in_place and self._in_place.takes(parameter, gradient.values):
            self._in_place.rows(parameter, gradient, self._kept(parameter), lr)
        else:
            self._update_rows(parameter, gradient, lr)

    def _update_rows(self, parameter: nn.Parameter, gradient: RowGradient, lr: float) -> None:
        rows, tensors = gradient.rows, self._kept(parameter)
        value = parameter.index_select(0, rows)
        visited = {name: tensor.index_select(0, rows) for name, tensor in tensors.items()}
        self.rule.apply(value, gradient.values, visited, lr, self.state[parameter]["step"])
        parameter.index_copy_(0, rows, value)
        for name, tensor in tensors.items():
            tensor.index_copy_(0, rows, visited[name])

    def _kept(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The state's tensors, one update further."""
        state = self.state[parameter]
        state["step"] += 1
        return {name: state[name] for name in self.rule.start()}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients. On a CPU a table's stays allocated, and only the rows that have one are zeroed."""
        for parameter in self._parameters():
            if hasattr(parameter, "row_gradient"):
                del parameter.row_gradient
            noted: list[Tensor] | None = getattr(parameter, "looked_up", None)
            if noted and parameter.grad is not None and parameter.device.type == "cpu":
                rows = looked_up(parameter)
                assert rows is not None
                parameter.grad.index_fill_(0, rows, 0)
            else:
                parameter.grad = None
            if noted:
                noted.clear()


def looked_up(parameter: nn.Parameter) -> Tensor | None:
    """The rows noted since they were cleared, of all processes, int64; None where all are to be updated."""
    noted: list[Tensor] | None = getattr(parameter, "looked_up", None)
    if not noted:
        return None
    rows = noted[0] if len(noted) == 1 else torch.cat(noted)
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return rows
    # The gradient is the mean over all processes, so each has to update the rows that any of them looked up.
    mask = torch.zeros(len(parameter), dtype=torch.int32, device=parameter.device)
    mask.index_fill_(0, rows, 1)
    distributed.all_reduce(mask, distributed.ReduceOp.MAX)
    return mask.nonzero().squeeze(1)
