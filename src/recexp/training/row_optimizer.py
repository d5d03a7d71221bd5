"""An optimiser that, on embedding tables, visits only the rows that the update looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from recexp.models.tables import RowGradient
from recexp.training.row_rules import MATRIX, SGD, Rule
from recexp.training.rules_in_place import in_place


class RowOptimizer(Optimizer):
    """Applies a rule to whole parameters, and with ``touched`` to the looked-up rows of two-dimensional tables.

    What a rule keeps of a row that is not looked up rests. Models gather through ``models.tables``, which notes the
    rows in ``table.looked_up``; a parameter of which nothing is ever noted is no table, and is updated whole. Rows may
    be noted twice: both then compute the same from the same sum of gradients.
    """

    def __init__(
        self, groups: list[dict[str, Any]], rule: Rule, *, lr: float, touched: bool, table_rule: Rule | None = None
    ) -> None:
        """Prepare the state.

        Args:
            groups: ``params``; ``weight_decay`` where a group has one: added to the gradient of what is updated, which
                for a table are the looked-up rows alone; ``"tables": False`` where nothing of it is looked up.
            rule: What an update computes.
            lr: Learning rate.
            touched: Visit looked-up rows only.
            table_rule: Another rule for tables. What is one shows in the first update.
        """
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})
        self.rule, self.table_rule, self.touched = rule, table_rule or rule, touched
        self._rows_only = False
        self._in_place = in_place(self.table_rule)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["step"] = 0
                if table_rule is None:
                    self.state[parameter].update(rule.start(parameter))
                may_be_table = parameter.dim() == MATRIX and group.get("tables", True)
                if may_be_table and (touched or table_rule is not None):
                    parameter.looked_up = []

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for group in self.param_groups for parameter in group["params"])

    @property
    def takes_row_gradients(self) -> bool:
        """Whether a table's gradient may be given as rows (``table.row_gradient``)."""
        return self.touched

    @property
    def rows_only(self) -> bool:
        """Nobody but this optimiser looks at the gradients of tables: they are left as rows, where that is faster."""
        return self._rows_only

    @rows_only.setter
    def rows_only(self, alone: bool) -> None:
        if alone == self._rows_only:
            return
        self._rows_only = alone
        for parameter in self._parameters():
            if hasattr(parameter, "looked_up"):
                parameter.rows_only = alone  # type: ignore[attr-defined]
                parameter.grad = None

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
                    self._update_given(parameter, given, group)
                elif parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        rule, tensors = self._kept(parameter)
        rows = looked_up(parameter) if self.touched else None
        if rows is not None:
            gradient = RowGradient(rows, parameter.grad.index_select(0, rows))
            self._update_rows(parameter, _decayed(gradient, parameter, group), tensors, group["lr"])
            return
        whole, decay = parameter.grad, group["weight_decay"]
        loops = self._in_place if rule is self.table_rule and not decay else None
        lr, step = group["lr"], self.state[parameter]["step"]
        if loops and loops.takes(parameter, whole) and loops.whole(parameter, whole, tensors, lr, step):
            return
        if decay:
            whole = whole.add(parameter, alpha=decay)
        rule.apply(parameter, whole, tensors, lr, step)

    def _update_given(self, parameter: nn.Parameter, gradient: RowGradient, group: dict[str, Any]) -> None:
        if parameter.grad is not None and self._rows_only:
            # The table was used in another way, too.
            parameter.grad.index_add_(0, gradient.rows, gradient.values)
            self._update(parameter, group)
            return
        _, tensors = self._kept(parameter)
        loops = self._in_place if self._in_place and self._in_place.takes(parameter, gradient.values) else None
        if not gradient.distinct:
            if isinstance(self.table_rule, SGD) and not group["weight_decay"]:
                # Values that are added need not be summed before.
                self._add_rows(parameter, gradient, group["lr"])
                return
            gradient = loops.summed(gradient) if loops else gradient.summed()
        gradient = _decayed(gradient, parameter, group)
        if loops:
            loops.rows(parameter, gradient, tensors, group["lr"], self.state[parameter]["step"])
        else:
            self._update_rows(parameter, gradient, tensors, group["lr"])

    def _add_rows(self, parameter: nn.Parameter, gradient: RowGradient, lr: float) -> None:
        if self._in_place and self._in_place.takes(parameter, gradient.values):
            self._in_place.rows(parameter, gradient, {}, lr)
        else:
            # With an alpha of its own, index_add_ takes ten times as long.
            parameter.index_add_(0, gradient.rows, gradient.values.mul(-lr))

    def _update_rows(
        self, parameter: nn.Parameter, gradient: RowGradient, tensors: dict[str, Tensor], lr: float
    ) -> None:
        rows = gradient.rows
        value = parameter.index_select(0, rows)
        visited = {name: tensor.index_select(0, rows) for name, tensor in tensors.items()}
        self.table_rule.apply(value, gradient.values, visited, lr, self.state[parameter]["step"])
        parameter.index_copy_(0, rows, value)
        for name, tensor in tensors.items():
            tensor.index_copy_(0, rows, visited[name])

    def _kept(self, parameter: nn.Parameter) -> tuple[Rule, dict[str, Tensor]]:
        """The parameter's rule and its tensors, one update further."""
        state = self.state[parameter]
        rule = self.rule
        if self.table_rule is not self.rule:
            if "table" not in state:
                # Gradients computed by hand come as rows, and note nothing.
                state["table"] = bool(getattr(parameter, "looked_up", None)) or hasattr(parameter, "row_gradient")
                state.update((self.table_rule if state["table"] else rule).start(parameter))
            rule = self.table_rule if state["table"] else rule
        state["step"] += 1
        return rule, {name: tensor for name, tensor in state.items() if name not in ("step", "table")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which makes a parameter's type of whole numbers, too: in float32 they are exact to 2 ** 24."""
        super().load_state_dict(state_dict)
        for number, parameter in enumerate(self._parameters()):
            for name, given in state_dict["state"].get(number, {}).items():
                if isinstance(given, Tensor) and not given.is_floating_point():
                    self.state[parameter][name] = given.detach().clone().to(parameter.device)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients. On a CPU a table's stays allocated, and only the rows that have one are zeroed."""
        for parameter in self._parameters():
            if hasattr(parameter, "row_gradient"):
                del parameter.row_gradient
            noted: list[Tensor] | None = getattr(parameter, "looked_up", None)
            if self.touched and noted and parameter.grad is not None and parameter.device.type == "cpu":
                rows = looked_up(parameter)
                assert rows is not None
                parameter.grad.index_fill_(0, rows, 0)
            else:
                parameter.grad = None
            if noted:
                noted.clear()


def _decayed(gradient: RowGradient, table: nn.Parameter, group: dict[str, Any]) -> RowGradient:
    """With the decay of the rows that it has."""
    decay = group["weight_decay"]
    if not decay:
        return gradient
    return RowGradient(gradient.rows, gradient.values.add(table.index_select(0, gradient.rows), alpha=decay))


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
