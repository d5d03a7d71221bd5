"""Rules of optimisers as plain arithmetic on a parameter, its gradient and its state: whole tensors, or some rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam

#: Dimensions of what may be a table.
MATRIX = 2


class Rule(Protocol):
    """One optimiser's arithmetic."""

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """The tensors that it keeps, as they are before the first update; as many rows as the parameter has."""
        ...

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """Change the value and the state in place.

        Args:
            value: Parameter, or rows of it.
            gradient: Of the same shape.
            state: Those of :meth:`start`, or the same rows of them.
            lr: Learning rate.
            step: Updates so far, this one included.
        """
        ...


@dataclass(frozen=True)
class AdagradMomentum:
    """GRU4Rec's: v = momentum v - lr g / sqrt(sum of g^2 + eps); value += v (authors' code, IndexedAdagradM)."""

    momentum: float = 0.0
    eps: float = 1e-6
    initial_accumulator: float = 0.0

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """The sum of squares, and the velocity where there is momentum."""
        velocity = {"velocity": torch.zeros_like(parameter)} if self.momentum else {}
        return {"sum": torch.full_like(parameter, self.initial_accumulator), **velocity}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["sum"].addcmul_(gradient, gradient)
        inverse = state["sum"].add(self.eps).rsqrt_()
        if not self.momentum:
            value.addcmul_(gradient, inverse, value=-lr)
            return
        state["velocity"].mul_(self.momentum).addcmul_(gradient, inverse, value=-lr)
        value.add_(state["velocity"])


@dataclass(frozen=True)
class Adagrad:
    """torch.optim.Adagrad's: value -= lr g / (sqrt(sum of g^2) + eps)."""

    eps: float = 1e-10
    initial_accumulator: float = 0.0

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """The sum of squares."""
        return {"sum": torch.full_like(parameter, self.initial_accumulator)}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["sum"].addcmul_(gradient, gradient)
        value.addcdiv_(gradient, state["sum"].sqrt().add_(self.eps), value=-lr)


@dataclass(frozen=True)
class RowwiseAdagrad:
    """RWSAdagrad's of facebookresearch/dlrm: one sum a row, of the mean of the row's squared gradients."""

    eps: float = 1e-10
    initial_accumulator: float = 0.0

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """The sums, [rows, 1]."""
        return {"row_sum": parameter.new_full((len(parameter), 1), self.initial_accumulator)}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["row_sum"].add_(gradient.square().mean(1, keepdim=True))
        value.addcdiv_(gradient, state["row_sum"].sqrt().add_(self.eps), value=-lr)


@dataclass(frozen=True)
class Adam:
    """torch.optim.Adam's; ``fused`` computes it with torch's fused kernel."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    fused: bool = False

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """Both moments."""
        return {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        steps = torch.full((), step - 1, dtype=torch.float32, device=value.device if self.fused else "cpu")
        adam(
            [value], [gradient], [state["exp_avg"]], [state["exp_avg_sq"]], [], [steps], foreach=False,
            fused=self.fused, amsgrad=False, beta1=self.beta1, beta2=self.beta2, lr=lr, weight_decay=0.0, eps=self.eps,
            maximize=False,
        )  # fmt: skip


@dataclass(frozen=True)
class LazyAdam(Adam):
    """torch.optim.SparseAdam's: its eps stands beside the root before its correction, which counts all updates."""

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["exp_avg"].lerp_(gradient, 1 - self.beta1)
        state["exp_avg_sq"].mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        root = state["exp_avg_sq"].sqrt().add_(self.eps)
        value.addcdiv_(state["exp_avg"], root, value=-self.rate(lr, step))

    def rate(self, lr: float, step: int) -> float:
        """The learning rate with both corrections for moments that started at 0."""
        return lr * math.sqrt(1 - self.beta2**step) / (1 - self.beta1**step)


@dataclass(frozen=True)
class RMSProp:
    """torch.optim.RMSprop's: s = alpha s + (1 - alpha) g^2; value -= lr g / (sqrt(s) + eps).

    TensorFlow's has ``eps_in_root`` and starts s at 1 (ApplyRMSProp in tensorflow/core/kernels/training_ops.cc; slot
    ``rms`` of tf.compat.v1.train.RMSPropOptimizer). With ``lazy``, rows may be left out while their gradient is zero:
    such a row would only have multiplied s by alpha, which is made good when it comes back.
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    initial: float = 0.0
    eps_in_root: bool = False
    lazy: bool = False

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """The mean square, the momentum where there is one, and the last visits int32[rows, 1] where rows rest."""
        state = {"square": torch.full_like(parameter, self.initial)}
        if self.momentum:
            state["buffer"] = torch.zeros_like(parameter)
        if self.lazy and parameter.dim() == MATRIX:
            state["visited"] = parameter.new_zeros((len(parameter), 1), dtype=torch.int32)
        return state

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        square = state["square"]
        square.mul_(self.decay(state, step)).addcmul_(gradient, gradient, value=1 - self.alpha)
        root = square.add(self.eps).sqrt_() if self.eps_in_root else square.sqrt().add_(self.eps)
        if "visited" in state:
            state["visited"].fill_(step)
        if not self.momentum:
            value.addcdiv_(gradient, root, value=-lr)
        elif self.eps_in_root:
            # TensorFlow keeps the step, torch what is to be multiplied by the rate: they differ where the rate changes.
            state["buffer"].mul_(self.momentum).addcdiv_(gradient, root, value=lr)
            value.sub_(state["buffer"])
        else:
            state["buffer"].mul_(self.momentum).addcdiv_(gradient, root)
            value.add_(state["buffer"], alpha=-lr)

    def decay(self, state: Mapping[str, Tensor], step: int) -> float | Tensor:
        """The factor on the mean squares of rows that were last visited some updates ago."""
        visited = state.get("visited")
        return self.alpha if visited is None else torch.pow(self.alpha, (step - visited).to(state["square"].dtype))


@dataclass(frozen=True)
class SGD:
    """torch.optim.SGD's without momentum."""

    def start(self, parameter: Tensor) -> dict[str, Tensor]:
        """Nothing is kept."""
        return {}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        value.add_(gradient, alpha=-lr)
