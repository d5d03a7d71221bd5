"""The click problem: how likely is it that an impression is clicked? What a batch is and what a model has to offer."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from recexp.datasets.impressions import Field
from recexp.metrics.clicks import ClickMetrics
from recexp.problems.evaluated_module import EvaluatedModule
from recexp.problems.module import Network

#: A ROC-AUC this close to 0.5 is a model that has learned nothing (a usual failure on Criteo: diverged, or raw values).
CHANCE = 0.001
_log = logging.getLogger(__name__)


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

    def rows(self, chosen: slice) -> ClickBatch:
        """Some of them, not copied."""
        return ClickBatch(self.label[chosen], self.dense[chosen], self.ids[chosen])


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

    def evaluate(self, batch: ClickBatch, evaluation: nn.Module) -> None:
        """Add a batch to an evaluation."""
        assert isinstance(evaluation, ClickMetrics)
        evaluation.update(cast(ClickNetwork, self.network).logits(batch), batch.label)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/`` metrics, and say so where nothing was learned."""
        super().on_validation_epoch_end()
        self._judge("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/`` metrics, and say so where nothing was learned."""
        super().on_test_epoch_end()
        self._judge("test")

    def _judge(self, split: str) -> None:
        auc = self.results.get(f"{split}/auc", math.nan)
        if abs(auc - 0.5) <= CHANCE:
            _log.warning(
                "%s/auc is %.4f: the model tells clicks from other impressions no better than chance. Usual reasons: a "
                "learning rate that is too high (optim.lr), dense values that are not transformed (dataset.recipe), "
                "labels that belong to other rows.",
                split,
                auc,
            )
