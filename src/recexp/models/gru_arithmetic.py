"""The element-wise arithmetic of a GRU step and of its softmax, there and back: by numpy, or by compiled loops.

Shapes: b slots, h hidden, U columns. Matrix products are not done here.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
_SMALLEST = np.finfo(np.float32).tiny


class Pair:
    """Memory as torch's tensor, as numpy's array, and as an address."""

    def __init__(self, *shape: int) -> None:
        self.tensor = torch.empty(shape)
        self.array: Floats = self.tensor.numpy()
        self.at = self.tensor.data_ptr()


class Work:
    """Memory that is used again in every step of b slots."""

    def __init__(self, slots: int, width: int, hidden: int) -> None:
        self.slots, self.hidden = slots, hidden
        self.projected, self.recurrent = Pair(slots, 3 * hidden), Pair(slots, 3 * hidden)
        self.gates = Pair(slots, 2 * hidden)
        self.candidate, self.query, self.difference = (Pair(slots, hidden) for _ in range(3))
        self.d_query, self.spare = Pair(slots, hidden), Pair(slots, hidden)
        self.d_projected, self.d_recurrent = Pair(slots, 3 * hidden), Pair(slots, 3 * hidden)
        self.d_entered = torch.empty(slots, width)


class Arithmetic(Protocol):
    """One step's element-wise parts."""

    def forward(self, work: Work, state: Tensor, mask: Tensor | None) -> None:
        """From ``projected`` and ``recurrent`` to the next state after dropout, in ``query``."""
        ...

    def softmax(self, scores: Tensor, own: NDArray[np.int64], scale: float) -> tuple[float, Tensor, Tensor, Tensor]:
        """Sum of -log of the own columns' shares; gradients of scores, [b, U] and [U, b], and their sums, [U]."""
        ...

    def backward(self, work: Work, mask: Tensor | None, d_bias_ih: Tensor, d_bias_hh: Tensor) -> None:
        """From ``d_query`` to ``d_projected``, ``d_recurrent`` and the gradients of both biases."""
        ...


class ByNumpy:
    """Operators of numpy and torch, on memory that is used again."""

    def __str__(self) -> str:
        return "numpy"

    def forward(self, work: Work, state: Tensor, mask: Tensor | None) -> None:
        """See :class:`Arithmetic`."""
        two, projected, recurrent = 2 * work.hidden, work.projected.array, work.recurrent.array
        candidate, query = work.candidate.array, work.query.array
        np.add(projected[:, :two], recurrent[:, :two], out=work.gates.array)
        gates = work.gates.tensor.sigmoid_().numpy()
        np.multiply(gates[:, : work.hidden], recurrent[:, two:], out=candidate)
        np.add(candidate, projected[:, two:], out=candidate)
        np.tanh(candidate, out=candidate)
        np.subtract(state.numpy(), candidate, out=work.difference.array)
        np.multiply(gates[:, work.hidden :], work.difference.array, out=query)
        np.add(query, candidate, out=query)
        if mask is not None:
            np.multiply(query, mask.numpy(), out=query)

    def softmax(self, scores: Tensor, own: NDArray[np.int64], scale: float) -> tuple[float, Tensor, Tensor, Tensor]:
        """See :class:`Arithmetic`."""
        share = scores.softmax(1)
        flat = share.numpy().reshape(-1)
        places = np.arange(len(own)) * share.shape[1] + own
        likelihood = flat[places]
        flat[places] = likelihood - 1
        share.mul_(scale)
        transposed = share.t().contiguous()
        return -float(np.log(np.maximum(likelihood, _SMALLEST)).sum()), share, transposed, transposed.sum(1)

    def backward(self, work: Work, mask: Tensor | None, d_bias_ih: Tensor, d_bias_hh: Tensor) -> None:
        """See :class:`Arithmetic`."""
        two, d_query, spare = 2 * work.hidden, work.d_query.array, work.spare.array
        gates, candidate = work.gates.array, work.candidate.array
        reset, update = gates[:, : work.hidden], gates[:, work.hidden :]
        d_reset, d_update, d_candidate = np.split(work.d_projected.array, 3, axis=1)
        d_recurrent = work.d_recurrent.array
        if mask is not None:
            np.multiply(d_query, mask.numpy(), out=d_query)
        # tanh: (1 - z) (1 - n^2)
        np.multiply(candidate, candidate, out=spare)
        np.subtract(1, spare, out=spare)
        np.multiply(spare, d_query, out=spare)
        np.subtract(1, update, out=d_candidate)
        # update gate: (h - n) z (1 - z), while 1 - z is at hand
        np.multiply(d_candidate, update, out=d_update)
        np.multiply(d_update, work.difference.array, out=d_update)
        np.multiply(d_update, d_query, out=d_update)
        np.multiply(d_candidate, spare, out=d_candidate)
        # reset gate: (state's part of the candidate) r (1 - r)
        np.subtract(1, reset, out=spare)
        np.multiply(spare, reset, out=spare)
        np.multiply(spare, work.recurrent.array[:, two:], out=spare)
        np.multiply(spare, d_candidate, out=d_reset)
        d_recurrent[:, :two] = work.d_projected.array[:, :two]
        np.multiply(d_candidate, reset, out=d_recurrent[:, two:])
        np.add.reduce(work.d_projected.array, axis=0, out=d_bias_ih.numpy())
        np.add.reduce(d_recurrent, axis=0, out=d_bias_hh.numpy())


class Compiled:
    """The loops of ``native.cpp``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def __str__(self) -> str:
        return "compiled loops"

    def forward(self, work: Work, state: Tensor, mask: Tensor | None) -> None:
        """See :class:`Arithmetic`."""
        self.library.gru_forward(
            work.slots, work.hidden, work.projected.at, work.recurrent.at, state.data_ptr(), _at(mask), work.gates.at,
            work.candidate.at, work.difference.at, work.query.at,
        )  # fmt: skip

    def softmax(self, scores: Tensor, own: NDArray[np.int64], scale: float) -> tuple[float, Tensor, Tensor, Tensor]:
        """See :class:`Arithmetic`."""
        slots, columns = scores.shape
        transposed, sums = torch.empty(columns, slots), torch.empty(columns)
        loss = self.library.softmax_gradient(
            slots, columns, own.ctypes.data, scale, scores.data_ptr(), transposed.data_ptr(), sums.data_ptr()
        )
        return loss, scores, transposed, sums

    def backward(self, work: Work, mask: Tensor | None, d_bias_ih: Tensor, d_bias_hh: Tensor) -> None:
        """See :class:`Arithmetic`."""
        self.library.gru_backward(
            work.slots, work.hidden, work.d_query.at, _at(mask), work.gates.at, work.candidate.at, work.difference.at,
            work.recurrent.at, work.d_projected.at, work.d_recurrent.at, d_bias_ih.data_ptr(), d_bias_hh.data_ptr(),
        )  # fmt: skip


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
