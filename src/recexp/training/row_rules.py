"""Rules of optimisers as plain arithmetic on a parameter, its gradient and its state: whole tensors, or some rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Rule(Protocol):
    """One optimiser's arithmetic."""

    def start(self) -> Mapping[str, float]:
        """Names of the tensors that it keeps, each of the parameter's shape, and what they are filled with."""
        ...

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """Change the value and the state in place.

        Args:
            value: Parameter, or rows of it.
            gradient: Of the same shape.
            state: Tensors of the same shape.
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

    def start(self) -> Mapping[str, float]:
        """The sum of squares, and the velocity where there is momentum."""
        velocity = {"velocity": 0.0} if self.momentum else {}
        return {"sum": self.initial_accumulator, **velocity}

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

    def start(self) -> Mapping[str, float]:
        """The sum of squares."""
        return {"sum": self.initial_accumulator}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["sum"].addcmul_(gradient, gradient)
        value.addcdiv_(gradient, state["sum"].sqrt().add_(self.eps), value=-lr)


@dataclass(frozen=True)
class Adam:
    """torch.optim.Adam's. The bias correction counts all updates, also for rows that were not looked up in some."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def start(self) -> Mapping[str, float]:
        """Both moments."""
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["exp_avg"].lerp_(gradient, 1 - self.beta1)
        state["exp_avg_sq"].mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        root = (state["exp_avg_sq"].sqrt() / math.sqrt(1 - self.beta2**step)).add_(self.eps)
        value.addcdiv_(state["exp_avg"], root, value=-lr / (1 - self.beta1**step))


@dataclass(frozen=True)
class SGD:
    """torch.optim.SGD's, with momentum in torch's form: v = momentum v + g; value -= lr v."""

    momentum: float = 0.0
    nesterov: bool = False

    def start(self) -> Mapping[str, float]:
        """The velocity where there is momentum."""
        return {"momentum_buffer": 0.0} if self.momentum else {}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        if self.momentum:
            buffer = state["momentum_buffer"].mul_(self.momentum).add_(gradient)
            gradient = gradient.add(buffer, alpha=self.momentum) if self.nesterov else buffer
        value.add_(gradient, alpha=-lr)


@dataclass(frozen=True)
class RMSprop:
    """torch.optim.RMSprop's: value -= lr g / (sqrt(mean of g^2) + eps), with momentum on the quotient."""

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0

    def start(self) -> Mapping[str, float]:
        """The running mean of squares, and the velocity where there is momentum."""
        buffer = {"momentum_buffer": 0.0} if self.momentum else {}
        return {"square_avg": 0.0, **buffer}

    def apply(self, value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], lr: float, step: int) -> None:
        """One update."""
        state["square_avg"].mul_(self.alpha).addcmul_(gradient, gradient, value=1 - self.alpha)
        root = state["square_avg"].sqrt().add_(self.eps)
        if not self.momentum:
            value.addcdiv_(gradient, root, value=-lr)
            return
        buffer = state["momentum_buffer"].mul_(self.momentum).addcdiv_(gradient, root)
        value.add_(buffer, alpha=-lr)
