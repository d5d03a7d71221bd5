"""Fully connected layers with ReLU on a processor: bias and ReLU inside the product, and a backward pass by hand.

The mathematics is that of ``linear`` and ``relu``; sums are taken in another order. oneDNN takes a factor that is
transposed as it is, so that of the three products of a layer only one needs a copy of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from recexp.models import kernels, products


class _Layers(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, last_relu: bool, *parameters: Tensor) -> Tensor:
        layers = len(parameters) // 2
        values = [x]
        for n, (weight, bias) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
            values.append(products.linear(values[-1], weight, bias, relu=last_relu or n + 1 < layers))
        ctx.last_relu = last_relu
        ctx.save_for_backward(*values, *parameters[::2])
        return values[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, gradient = ctx.saved_tensors, gradients[0]
        layers = len(saved) // 2
        values, weights = saved[: layers + 1], saved[layers + 1 :]
        found: list[Tensor | None] = []
        for n in reversed(range(layers)):
            if ctx.last_relu or n + 1 < layers:
                # The first gradient belongs to the graph, the others are our own.
                own = gradient if n + 1 < layers else torch.empty_like(gradient)
                gradient = torch.ops.aten.threshold_backward.grad_input(gradient, values[n + 1], 0, grad_input=own)
            turned = gradient.t().contiguous()
            found += [turned.sum(1), products.linear(turned, values[n].t())]
            if n or ctx.needs_input_grad[0]:
                gradient = products.linear(gradient, weights[n].t())
        return (gradient if ctx.needs_input_grad[0] else None, None, *reversed(found))


def takes(x: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether the form by hand applies: float32 on a processor, outside of autocast."""
    return (
        kernels.hand_written(x)
        and not torch.is_autocast_enabled("cpu")
        and all(tensor.dtype == torch.float32 for tensor in (x, *parameters))
    )


def relu_layers(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, last_relu: bool) -> Tensor:
    """``relu(... relu(x W0^T + b0) ... Wn^T + bn)``, [B, in] to [B, out].

    Args:
        x: Input.
        weights: [out, in] of each layer.
        biases: [out] of each layer.
        last_relu: Whether the last layer has a ReLU, too.
    """
    parameters = [each for pair in zip(weights, biases, strict=True) for each in pair]
    if takes(x, parameters):
        value: Tensor = _Layers.apply(x, last_relu, *parameters)  # type: ignore[no-untyped-call]
        return value
    for n, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = functional.linear(x, weight, bias)
        if last_relu or n + 1 < len(weights):
            x = functional.relu(x)
    return x
