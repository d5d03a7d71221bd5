"""Fully connected layers with ReLU (a multi-layer perceptron), with batch normalisation and dropout where asked for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from recexp.models.fused_layers import relu_layers


class DenseLayers(nn.Module):
    """Layer, batch normalisation, ReLU, dropout, layer, ...; the last layer may go without what follows it."""

    def __init__(
        self, widths: Sequence[int], *, last_relu: bool, batch_norm: bool = False, dropout: float = 0.0
    ) -> None:
        """Allocate the layers; who owns them initialises them.

        Args:
            widths: Of the input and of each layer's output.
            last_relu: Whether the last layer is like the others, or gives what is linear.
            batch_norm: Normalise before each ReLU; a row alone by the running mean and variance, which then stay.
            dropout: Drop probability after each ReLU.
        """
        super().__init__()
        self.last_relu, self.dropout = last_relu, dropout
        pairs = list(itertools.pairwise(widths))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(out, into)) for into, out in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(out)) for _, out in pairs)
        activated = widths[1:] if last_relu else widths[1:-1]
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in activated) if batch_norm else None

    def initialise(self, *, weight_std: float | None = None, bias_std: float | None = None) -> None:
        """Draw layer by layer, weights before biases, from normal distributions.

        Args:
            weight_std: Standard deviation; None: sqrt(2 / (inputs + outputs)).
            bias_std: Standard deviation; None: sqrt(1 / outputs).
        """
        for weight, bias in zip(self.weights, self.biases, strict=True):
            outputs, inputs = weight.shape
            nn.init.normal_(weight, std=(2 / (inputs + outputs)) ** 0.5 if weight_std is None else weight_std)
            nn.init.normal_(bias, std=(1 / outputs) ** 0.5 if bias_std is None else bias_std)

    def forward(self, x: Tensor) -> Tensor:
        """The layers' output, [B, in] to [B, out]."""
        dropout = self.dropout if self.training else 0.0
        if self.norms is None and not dropout:
            return relu_layers(x, list(self.weights), list(self.biases), last_relu=self.last_relu)
        activated = len(self.weights) - (not self.last_relu)
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = functional.linear(x, weight, bias)
            if n < activated:
                x = self._normalised(x, n)
                x = functional.dropout(functional.relu(x), dropout)
        return x

    def _normalised(self, x: Tensor, layer: int) -> Tensor:
        if self.norms is None:
            return x
        norm = self.norms[layer]
        assert isinstance(norm, nn.BatchNorm1d)
        if self.training and len(x) < 2:
            # A row alone has no variance; torch would end the training at the last batch of an epoch.
            mean, variance = norm.running_mean, norm.running_var
            return functional.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=norm.eps)
        normalised: Tensor = norm(x)
        return normalised
