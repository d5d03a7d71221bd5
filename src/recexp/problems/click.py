"""The click problem: how likely is it that an impression is clicked? What a batch is and what a model has to offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from recexp.datasets.impressions import Field
from recexp.problems.evaluated_module import EvaluatedModule
from recexp.problems.module import Network


@dataclass(frozen=True)
class ClickBatch:
    """Impressions.

    Shapes: B rows, D numbers, S slots. ``label`` float32 [B], 0 or 1. ``dense`` float32 [B, D]. ``ids`` int32 or int64
    [B, S], counted from 0 in each field, -1 in the slots that a row of a multi-valued field does not use.
    """

    label: Tensor
    dense: Tensor
    ids: Tensor

    def __len__(self) -> int:
        """Rows."""
        return len(self.label)


@dataclass(frozen=True)
class ClickSizes:
    """What the data decides about a model.

    Attributes:
        fields: In the order of the slots of ``ClickBatch.ids``.
        num_dense: Width of ``ClickBatch.dense``.
    """

    fields: Sequence[Field]
    num_dense: int


@runtime_checkable
class ClickNetwork(Network, Protocol):
    """What the problem needs of a model; it is made with ``sizes=ClickSizes(...)`` beside its options."""

    def logits(self, batch: ClickBatch) -> Tensor:
        """Log-odds of a click, float32 [B]; what is evaluated is their sigmoid."""
        ...

    def loss(self, batch: ClickBatch) -> Tensor:
        """Loss of each row, float32 [B]."""
        ...


class ClickModule(EvaluatedModule):
    """Trains a network and judges its probabilities."""

    def evaluate(self, batch: ClickBatch, evaluation: object) -> None:
        """Add a batch to an evaluation."""
        raise NotImplementedError
