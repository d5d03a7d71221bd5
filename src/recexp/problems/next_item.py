"""The next-item problem: given a user and the last items, rank the catalogue for what comes next.

A dataset offers :class:`~recexp.datasets.events.Events`; a model takes the batches of its feed (:class:`NextItemBatch`
for windows) and answers with the loss of each row, and with the scores of the catalogue for an
:class:`~recexp.problems.evaluation.EvalBatch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor, nn

from recexp.problems.evaluated_module import EvaluatedModule
from recexp.problems.evaluation import EvalBatch, Evaluation
from recexp.problems.module import Network


@dataclass(frozen=True)
class NextItemBatch:
    """Rows to train on.

    Attributes:
        user: Ids, int64 [B].
        history: The last items before the first target, 0 on the left, int64 [B, L].
        target: The next items, 0 where there is none, int64 [B, T].
        negative: Items drawn for each target, int64 [B, T, N].
    """

    user: Tensor
    history: Tensor
    target: Tensor
    negative: Tensor

    def __getitem__(self, rows: slice) -> NextItemBatch:
        return NextItemBatch(self.user[rows], self.history[rows], self.target[rows], self.negative[rows])


class CatalogueNetwork(Network, Protocol):
    """What every model has to offer for this problem."""

    #: Items of history that it looks at.
    max_len: int

    def catalogue_scores(self, user: Tensor, history: Tensor) -> Tensor:
        """Scores of every id, higher is better, [B, num_items + 1]."""
        ...


class WindowNetwork(CatalogueNetwork, Protocol):
    """A model whose training rows are windows: a history, its next items, and negatives."""

    targets: int

    def loss(self, batch: NextItemBatch) -> Tensor:
        """Loss of each row, [B], in float32."""
        ...


class NextItemModule(EvaluatedModule):
    """Trains a network, and ranks the one held-out item of each user."""

    def evaluate(self, batch: EvalBatch, evaluation: nn.Module) -> None:
        """Rank the targets of some users."""
        assert isinstance(evaluation, Evaluation)
        network = cast(CatalogueNetwork, self.network)
        evaluation.update(network.catalogue_scores(batch.user, batch.history), batch)
