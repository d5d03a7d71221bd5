"""Activations by their words, with the constants that some of them have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Activation = Callable[[Tensor], Tensor]


def activation(name: str, alpha: float = 1.0, scale: float = 1.0) -> Activation:
    """The function of a word.

    Args:
        name: linear, tanh, sigmoid, relu, elu, selu or leaky_relu.
        alpha: elu, selu: the limit for large negative values is -alpha (times ``scale``); leaky_relu: the slope there.
        scale: selu: factor on everything.

    Raises:
        ValueError: Another word.
    """
    known: dict[str, Activation] = {
        "linear": lambda x: x,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "relu": torch.relu,
        "elu": lambda x: functional.elu(x, alpha),
        "selu": lambda x: scale * functional.elu(x, alpha),
        "leaky_relu": lambda x: functional.leaky_relu(x, alpha),
    }
    if name not in known:
        raise ValueError(f"activation {name!r}: one of {', '.join(known)}")
    return known[name]
