"""One step of a gated recurrent unit, in the three conventions that GRU4Rec's implementations use.

Written out, because no accelerator has to have a fused cell for it (Ascend lacks bfloat16 ones). Gates are stacked as
reset, update, candidate; weights as torch stores them, [3h, in].

| convention | reset gate acts | next state |
|---|---|---|
| torch | after the product with the state | z h + (1 - z) n |
| theano | before it | (1 - z) h + z n |
| tf | before it | z h + (1 - z) n |
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recexp.models.activations import Activation

CONVENTIONS = ("torch", "theano", "tf")


def gru_step(
    projected: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None, *, convention: str, act: Activation
) -> Tensor:
    """The next state, [b, h].

    Args:
        projected: The input's part of the gates, its bias included, [b, 3h].
        state: [b, h].
        weight: Of the state, [3h, h].
        bias: Of the state's part, [3h]; None for the conventions with one bias.
        convention: A word of ``CONVENTIONS``.
        act: Of the candidate, usually tanh.
    """
    hidden = state.shape[1]
    if convention == "torch":
        recurrent = functional.linear(state, weight, bias)
        gates = torch.sigmoid(projected[:, : 2 * hidden] + recurrent[:, : 2 * hidden])
        reset, update = gates.chunk(2, 1)
        candidate = act(projected[:, 2 * hidden :] + reset * recurrent[:, 2 * hidden :])
        return candidate + update * (state - candidate)
    gates = torch.sigmoid(projected[:, : 2 * hidden] + functional.linear(state, weight[: 2 * hidden]))
    reset, update = gates.chunk(2, 1)
    candidate = act(projected[:, 2 * hidden :] + functional.linear(reset * state, weight[2 * hidden :]))
    if convention == "theano":
        return state + update * (candidate - state)
    return candidate + update * (state - candidate)
