"""DeepFM (Guo et al. 2017, arXiv 1703.04247): a factorisation machine and deep layers over the same vectors.

Defaults follow MindSpore's model (mindspore-ai/models, official/recommend/DeepFM); what ChenglongChen, DeepCTR and
FuxiCTR do otherwise are options. Shape letters: B rows, D dense numbers, F fields, k width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recexp.models.blocks import block
from recexp.models.click_losses import click_losses, widened
from recexp.models.dense_layers import DenseLayers
from recexp.models.fm_terms import pair_products
from recexp.models.valued_fields import FirstAndSecondOrder, penalised

if TYPE_CHECKING:
    from recexp.problems.click import ClickBatch, ClickSizes

#: Initial bias of the learned projection (ChenglongChen).
_PROJECTION_BIAS = 0.01


class DeepFM(nn.Module):
    """The network and its loss."""

    def __init__(
        self,
        *,
        sizes: ClickSizes,
        dim: int = 80,
        hidden: Sequence[int] = (1024, 512, 256, 128),
        dense: str = "field",
        combine: str = "sum",
        first_order: str = "vector",
        bias: bool = False,
        dropout_fm: float = 0.0,
        dropout_input: float = 0.0,
        dropout_deep: float = 0.0,
        batch_norm: bool = False,
        l2_linear: float = 8e-5,
        l2_embedding: float = 8e-5,
        l2_deep: float = 0.0,
        l2_scope: str = "full",
        init_std: float = 0.01,
        init_deep: str = "normal",
        init_deep_std: float = 0.01,
        reduction: str = "mean",
    ) -> None:
        """Build and draw the parameters; the options are described in conf/model/deepfm.yaml.

        Args:
            sizes: Of the data.
            dim: Width k of a vector.
            hidden: Widths of the deep layers.
            dense: Dense numbers: ``field`` (value times a weight and a vector of its own) or ``linear`` (value times a
                weight, and an input of the deep layers; DeepCTR).
            combine: ``sum`` of the three parts, or a learned ``projection`` of their concatenation (ChenglongChen).
            first_order: ``projection``: every field's term by itself (``vector``), or their sum (``scalar``).
            bias: ``sum``: a global bias.
            dropout_fm: Drop probability of each first-order term and of each factor of the second order.
            dropout_input: Of the deep layers' input.
            dropout_deep: Of each deep layer's output.
            batch_norm: Normalise before each ReLU.
            l2_linear: Penalty l2_linear / 2 * sum(w^2) on the first-order weights.
            l2_embedding: The same on the vectors.
            l2_deep: The same on the weights of the deep layers and of the projection.
            l2_scope: Of the tables: ``full``, or the rows that a ``batch`` looks up.
            init_std: Standard deviation of the initial tables.
            init_deep: Deep layers: ``normal`` (weights and biases) or ``glorot`` (normal weights, biases 0).
            init_deep_std: ``normal``: standard deviation.
            reduction: Of a batch's losses: ``mean`` or ``sum``.
        """
        super().__init__()
        self.combine, self.first_order, self.reduction = combine, first_order, reduction
        self.dropout_fm, self.dropout_input, self.l2_deep = dropout_fm, dropout_input, l2_deep
        self.dense_as_field = dense == "field"
        self.fields = FirstAndSecondOrder(
            sizes,
            dim,
            l2_linear=l2_linear,
            l2_embedding=l2_embedding,
            l2_scope=l2_scope,
            with_dense=self.dense_as_field,
        )
        loose = 0 if self.dense_as_field else sizes.num_dense
        self.dense_weight = nn.Parameter(torch.empty(loose, 1)) if loose else None
        added = combine == "sum"
        self.deep = DenseLayers(
            [self.fields.count * dim + loose, *hidden, *([1] if added else [])],
            last_relu=not added,
            batch_norm=batch_norm,
            dropout=dropout_deep,
        )
        self.bias = nn.Parameter(torch.empty(1)) if added and bias else None
        first = (self.fields.count + loose) if first_order == "vector" else 1
        self.projection = None if added else DenseLayers([first + dim + hidden[-1], 1], last_relu=False)
        self._initialise(init_std, init_deep, init_deep_std)

    @torch.no_grad()
    def _initialise(self, std: float, deep: str, deep_std: float) -> None:
        self.fields.initialise(std)
        if self.dense_weight is not None:
            nn.init.normal_(self.dense_weight, std=std)
        if deep == "glorot":
            self.deep.initialise(bias_std=0.0)
        else:
            self.deep.initialise(weight_std=deep_std, bias_std=deep_std)
        if self.projection is not None:
            self.projection.initialise(bias_std=0.0)
            self.projection.biases[0].fill_(_PROJECTION_BIAS)
        if self.bias is not None:
            self.bias.zero_()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The tables, the weights of the layers, and what has no penalty."""
        groups = self.fields.parameter_groups()
        if self.dense_weight is not None:
            groups.append(penalised([self.dense_weight], self.fields.l2_linear))
        layers = [self.deep] if self.projection is None else [self.deep, self.projection]
        groups.append(penalised([weight for own in layers for weight in own.weights], self.l2_deep))
        taken = {id(parameter) for group in groups for parameter in group["params"]}
        groups.append(penalised([parameter for parameter in self.parameters() if id(parameter) not in taken], 0.0))
        return groups

    def logits(self, batch: ClickBatch) -> Tensor:
        """Log-odds of a click, float32 [B]."""
        if self.projection is None and self.dense_weight is None and not (self.training and self.dropout_fm):
            order, vectors = self.fields.terms(batch)
            logits = widened(order + self._deep(vectors.flatten(1)).squeeze(1))
            return logits if self.bias is None else logits + self.bias
        first, vectors = self.fields(batch)
        if self.dense_weight is not None:
            first = torch.cat((batch.dense * self.dense_weight.T, first), dim=1)
        first = functional.dropout(first, self.dropout_fm, self.training)
        second = functional.dropout(pair_products(vectors), self.dropout_fm, self.training)
        entered = vectors.flatten(1)
        if self.dense_weight is not None:
            entered = torch.cat((entered, batch.dense), dim=1)
        deep = self._deep(entered)
        if self.projection is not None:
            return self._projected(first, second, deep)
        logits = widened(first.sum(1) + second.sum(1) + deep.squeeze(1))
        return logits if self.bias is None else logits + self.bias

    def _deep(self, entered: Tensor) -> Tensor:
        with block(self, "deep", functional.dropout(entered, self.dropout_input, self.training)) as (entered,):
            found: Tensor = self.deep(entered)
        return found

    def _projected(self, first: Tensor, second: Tensor, deep: Tensor) -> Tensor:
        assert self.projection is not None
        terms = first if self.first_order == "vector" else first.sum(1, keepdim=True)
        with block(self, "deep", torch.cat((terms, second, deep), dim=1)) as (parts,):
            return widened(self.projection(parts)).squeeze(1)

    def loss(self, batch: ClickBatch) -> Tensor:
        """Cross-entropy of each row, float32 [B]; the penalties are the optimiser's."""
        return click_losses(self.logits(batch), batch.label)
